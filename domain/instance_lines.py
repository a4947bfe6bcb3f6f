"""Instance time to charge lines: segments cut at full UTC hours and at price changes, to the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from domain.calendar import HOUR, hour_start, is_whole_second, utc
from domain.ids import charge_id, stamp
from domain.money import EXACT, hour_amount
from domain.prices import PriceBook, time_price_id
from domain.rated_line import Unpriced, rated_line
from schemas.charges import ChargeLine
from schemas.instances import InstanceChanged

INTERVAL_MAX = timedelta(days=31)
"""Lifecycle writes an interval about once a minute; one this long still fits a message, a longer one is broken."""

SECOND = timedelta(seconds=1)


def instance_lines(
    changed: InstanceChanged, source_event: str, source_hash: str, prices: PriceBook, rating_version: int
) -> tuple[ChargeLine, ...]:
    """The lines of one proven interval. Each segment costs A(end) - A(start) within its hour (domain/money.py).

    Raises Unpriced where any second of it has no price, ValueError for an impossible interval.
    """
    if changed.interval is None:
        return ()
    start, end = utc(changed.interval.billable_from), utc(changed.interval.billable_until)
    if not (is_whole_second(start) and is_whole_second(end)):
        raise ValueError("its billable interval is not in whole seconds")
    if not timedelta(0) <= end - start <= INTERVAL_MAX:
        raise ValueError("its billable interval is impossible")
    price_id = time_price_id(changed.region, changed.spec)
    cuts = (_ceiling(edge) for edge in prices.boundaries(price_id, start, end))
    lines = []
    for segment_from, segment_until in segments(start, end, cuts):
        price = prices.price_at(price_id, segment_from)
        if price is None:
            raise Unpriced(price_id)
        hour = hour_start(segment_from)
        amount = EXACT.subtract(
            hour_amount(_seconds(segment_until - hour), price.unit_price),
            hour_amount(_seconds(segment_from - hour), price.unit_price),
        )
        lines.append(
            rated_line(
                charge_id(source_event, price.meter, stamp(segment_from), rating_version),
                source_hash,
                price,
                quantity=_seconds(segment_until - segment_from),
                unit="second",
                amount=amount,
                segment_from=segment_from,
                segment_until=segment_until,
            )
        )
    return tuple(lines)


def segments(start: datetime, end: datetime, cuts: Iterable[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """`[start, end)` cut at every full UTC hour and at `cuts`, in order; none is empty."""
    edges = {start, end} | {cut for cut in cuts if start < cut < end}
    hour = hour_start(start) + HOUR
    while hour < end:
        edges.add(hour)
        hour += HOUR
    ordered = sorted(edges)
    yield from pairwise(ordered)


def _ceiling(instant: datetime) -> datetime:
    """The next whole second: a second has the price that is in force when it begins."""
    return instant if is_whole_second(instant) else instant.replace(microsecond=0) + SECOND


def _seconds(span: timedelta) -> int:
    return span // SECOND
