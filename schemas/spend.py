"""`hydra.spend` and `hydra.balances`: totals that are stated, never added. Nothing billed depends on them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.scalars import Count, Instant


class SpendStated(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.spend.v1`, key `<account>/<hour>`, partitioned by account. Its id is `<account>/<hour>@<offset>`.

    The exact total of an account's UTC hour (of event time) as ClickHouse has it, per currency, and the offset of
    the account's partition of `hydra.charges` that it covers. The highest offset is the truth.
    """

    account: str
    hour: Instant
    totals: dict[str, Decimal]
    covers_offset: Count


class BalanceStated(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.balances.v1`, key account, compacted: what an account has spent, per currency.

    `hour`, `day` and `month` name the current windows' beginnings (UTC instants; day and month follow the
    platform's time zone). `version` rises with every statement of an account.
    """

    account: str
    version: Count
    hour: Instant
    day: Instant
    month: Instant
    spent_hour: dict[str, Decimal]
    spent_day: dict[str, Decimal]
    spent_month: dict[str, Decimal]
    spent_total: dict[str, Decimal]
    covers_offset: Count
