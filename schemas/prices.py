"""`hydra.prices`: the versions of every price, in the order in which `billing` recorded them. Key: price id."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.charges import Meter, PriceSource
from schemas.scalars import Count, Instant


class PriceRecorded(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.prices.v1`. The event's id is `<price_id>@<version>`; its time is `recorded_at`.

    In force over `[effective_from, effective_until)` of event time, an open end standing until a later version
    begins; known from `recorded_at` on; never edited. `price_id` is `<model>/<meter>` for tokens and
    `<region>/<spec>/instance_seconds` for time. `unit_price` is per `per` units: 1_000_000 tokens or 3600 seconds.
    """

    price_id: str
    version: Count
    meter: Meter
    unit_price: Decimal
    per: Count
    currency: str
    effective_from: Instant
    recorded_at: Instant
    source: PriceSource
    model: str | None = None
    region: str | None = None
    spec: str | None = None
    effective_until: Instant | None = None
