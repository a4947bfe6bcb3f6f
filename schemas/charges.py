"""`hydra.charges`: one message carries all charge lines of one source event, or why it has none. Key: account."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

Meter = Literal["input_tokens", "cached_input_tokens", "output_tokens", "instance_seconds"]
Unit = Literal["token", "second"]
PriceSource = Literal["published", "example"]
SourceType = Literal["usage", "instance"]

UnbilledReason = Literal[
    "billed_by_time",  # tokens on an own service
    "operator",  # the operator's own instance
    "refused",
    "engine_lost",
    "engine_refused",
    "gateway_lost",
    "upstream_timeout",
    "no_report",  # the client left and the engine could not be asked
    "no_tokens",  # answered, and the engine reported zero tokens
    "not_billable",  # an instance event without a billable interval
    "unpriced",  # no price in force at event time: parked, alarmed, rated later
]


class ChargeLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line that explains itself: `amount = quantity x unit_price / per`, rounded as domain/rating.py says.

    `amount` and `unit_price` are decimals of `currency`; `per` is 1_000_000 tokens or 3600 seconds.
    `segment_from`/`segment_until` bound the segment of time that the quantity falls in (equal for tokens).
    `resource` is the access path for tokens and the instance for time.
    """

    id: str
    meter: Meter
    quantity: Count
    unit: Unit
    unit_price: Decimal
    per: Count
    amount: Decimal
    currency: str
    price_id: str
    price_version: Count
    price_source: PriceSource
    segment_from: Instant
    segment_until: Instant
    payload_hash: str


class ChargesRaised(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.charges.v1`. The event's id is `<source_event>/charges/<rating_version>`; its time is the source's.

    Either `lines` or `unbilled` is set. `corrects` names the charge that a correction replaces.
    """

    source_event: str
    source_type: SourceType
    source_hash: str
    account: str
    rating_version: Count
    access_path: str
    resource: str
    service_id: str | None = None
    model: str | None = None
    region: str | None = None
    spec: str | None = None
    instance: str | None = None
    key_id: str | None = None
    lines: tuple[ChargeLine, ...] = ()
    unbilled: UnbilledReason | None = None
    corrects: str | None = None
