"""One charge line from a price, a quantity and an amount: its formula's inputs and its hash."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from domain import payload_hash
from schemas.charges import ChargeLine, Unit
from schemas.prices import PriceRecorded


class Unpriced(Exception):
    """No price is in force for something that must have one: the event is rated later, never at zero."""


def rated_line(
    id: str,
    source_hash: str,
    price: PriceRecorded,
    *,
    quantity: int,
    unit: Unit,
    amount: Decimal,
    segment_from: datetime,
    segment_until: datetime,
) -> ChargeLine:
    line = ChargeLine(
        id=id,
        meter=price.meter,
        quantity=quantity,
        unit=unit,
        unit_price=price.unit_price,
        per=price.per,
        amount=amount,
        currency=price.currency,
        price_id=price.price_id,
        price_version=price.version,
        price_source=price.source,
        segment_from=segment_from,
        segment_until=segment_until,
        payload_hash="",
    )
    # The hash covers the line, and nobody else has seen it yet: set in place, it is not built a second time.
    msgspec.structs.force_setattr(line, "payload_hash", payload_hash.of_charge(line, source_hash))
    return line
