"""Price versions, in force over intervals of event time. Built from what `hydra.prices` recorded, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from domain import payload_hash
from domain.calendar import utc
from domain.money import shortest
from domain.plausible import DECIMAL_PLACES_MAX
from schemas.charges import Meter
from schemas.prices import PriceRecorded

PER: dict[Meter, int] = {
    "input_tokens": 1_000_000,
    "cached_input_tokens": 1_000_000,
    "output_tokens": 1_000_000,
    "instance_seconds": 3600,
}
"""How many units a price of each meter is for."""

TOKEN_PRICE_DECIMALS_MAX = 6
"""So that tokens x price / 10^6 is exact at 12 places."""

TIME_PRICE_DECIMALS_MAX = 12
UNIT_PRICE_MAX = Decimal(10) ** 12

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)


class InvalidPrice(ValueError):
    """This version cannot be a price: `str()` says why in one sentence."""


class PriceEdited(InvalidPrice):
    """A version that was recorded before comes again with other contents; the first one stands."""


def token_price_id(model: str, meter: Meter) -> str:
    """`<model>/<meter>`."""
    return f"{model}/{meter}"


def time_price_id(region: str, spec: str) -> str:
    """`<region>/<spec>/instance_seconds`."""
    return f"{region}/{spec}/instance_seconds"


def check(price: PriceRecorded) -> None:
    """Raise InvalidPrice where nothing could be rated exactly by this version."""
    if price.per != PER[price.meter]:
        raise InvalidPrice(f"{price.price_id}: a price of {price.meter} is per {PER[price.meter]}, not {price.per}")
    number = price.unit_price
    if not number.is_finite() or number.is_signed() or number > UNIT_PRICE_MAX:
        raise InvalidPrice(f"{price.price_id}: a unit price lies between 0 and {UNIT_PRICE_MAX}")
    allowed = TIME_PRICE_DECIMALS_MAX if price.meter == "instance_seconds" else TOKEN_PRICE_DECIMALS_MAX
    exponent = price.unit_price.as_tuple().exponent
    # With more places, zeros or not, the warehouse would park what is charged by it. Counted before it is written out.
    too_long = isinstance(exponent, int) and -exponent > DECIMAL_PLACES_MAX
    if too_long or len(shortest(price.unit_price).partition(".")[2]) > allowed:
        raise InvalidPrice(f"{price.price_id}: a price of {price.meter} has at most {allowed} decimals")
    ends = (price.effective_until,) if price.effective_until is not None else ()
    if any(instant.tzinfo is None for instant in (price.effective_from, price.recorded_at, *ends)):
        raise InvalidPrice(f"{price.price_id}: its instants need a time zone")
    if price.effective_until is not None and price.effective_until <= price.effective_from:
        raise InvalidPrice(f"{price.price_id}: it must end after it begins")
    if not price.currency:
        raise InvalidPrice(f"{price.price_id}: it names no currency")


class PriceBook:
    """All recorded versions of all prices, and which one is in force at an instant of event time.

    A version covers `[effective_from, effective_until)`; an open end stands until a version that begins later
    begins. Where two cover an instant, the one that began last is in force, then the higher version.
    """

    def __init__(self, recorded: Iterable[PriceRecorded] = ()) -> None:
        self._versions: dict[str, list[PriceRecorded]] = {}
        # Of each price, when each version is in force, the last to begin first: raters ask it for every event.
        self._in_force: dict[str, list[tuple[datetime, datetime, PriceRecorded]]] = {}
        for price in recorded:
            self.record(price)

    def __len__(self) -> int:
        return sum(len(versions) for versions in self._versions.values())

    def record(self, price: PriceRecorded) -> bool:
        """Take in one version; False for a repeat. Raises InvalidPrice, or PriceEdited and keeps the first."""
        check(price)
        versions = self._versions.get(price.price_id, [])
        for known in versions:
            if known.version == price.version:
                if payload_hash.of_price(known) != payload_hash.of_price(price):
                    raise PriceEdited(f"{price.price_id}: version {price.version} was recorded before and has changed")
                return False
        ordered = sorted([*versions, price], key=lambda known: (known.effective_from, known.version))
        self._versions[price.price_id] = ordered
        self._in_force[price.price_id] = [
            (known.effective_from, self._end(ordered, known), known) for known in reversed(ordered)
        ]
        return True

    def versions(self, price_id: str) -> tuple[PriceRecorded, ...]:
        """Every version of a price, by beginning, then version."""
        return tuple(self._versions.get(price_id, ()))

    def price_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self._versions))

    def price_at(self, price_id: str, instant: datetime) -> PriceRecorded | None:
        """The version in force at `instant` (an aware one), or None where no price is in force."""
        for start, end, price in self._in_force.get(price_id, ()):
            if start <= instant < end:
                return price
        return None

    def boundaries(self, price_id: str, start: datetime, end: datetime) -> tuple[datetime, ...]:
        """The instants strictly inside `(start, end)` at which the price in force can change, in order, in UTC."""
        versions = self._versions.get(price_id, ())
        edges = {price.effective_from for price in versions} | {
            price.effective_until for price in versions if price.effective_until is not None
        }
        return tuple(sorted({utc(edge) for edge in edges if start < edge < end}))

    @staticmethod
    def _end(versions: Iterable[PriceRecorded], price: PriceRecorded) -> datetime:
        if price.effective_until is not None:
            return price.effective_until
        later = (other.effective_from for other in versions if other.effective_from > price.effective_from)
        return min(later, default=_FAR_FUTURE)
