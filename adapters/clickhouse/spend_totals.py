"""What an account's UTC hour costs, exactly: the totals that the warehouse states, never adds."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.writing import AccountHour

_PAIRS_MAX = 2_000


async def hour_totals(clickhouse: ClickHouse, hours: Collection[AccountHour]) -> dict[AccountHour, dict[str, Decimal]]:
    """For each of `hours` its total per currency, conflicts left out. An hour without a charge has no currency."""
    totals: dict[AccountHour, dict[str, Decimal]] = {pair: {} for pair in hours}
    pairs = iter(sorted(totals))
    while part := list(islice(pairs, _PAIRS_MAX)):
        rows = await clickhouse.query(
            """
            WITH asked AS
            (
                SELECT pair.1 AS account, toDateTime(pair.2, 'UTC') AS hour
                FROM (SELECT arrayJoin(arrayZip({accounts:Array(String)}, {hours:Array(UInt32)})) AS pair)
            )
            SELECT c.account, toUnixTimestamp(toStartOfHour(toDateTime(c.event_time, 'UTC'))) AS hour, c.currency,
                toString(sum(toDecimal256(c.amount, 12)))
            FROM charges AS c FINAL
            WHERE (c.account, c.event_date) IN (SELECT account, toDate(hour, 'UTC') FROM asked)
                AND (c.account, toStartOfHour(toDateTime(c.event_time, 'UTC'))) IN (SELECT account, hour FROM asked)
                AND c.source_event NOT IN (SELECT source_event FROM conflicting_events)
            GROUP BY c.account, hour, c.currency
            SETTINGS do_not_merge_across_partitions_select_final = 1
            """,
            {
                "accounts": [account for account, _ in part],
                "hours": [int(hour.timestamp()) for _, hour in part],
            },
        )
        for account, hour, currency, amount in rows:
            totals[account, datetime.fromtimestamp(hour, UTC)][currency] = Decimal(amount)
    return totals
