"""Which versions of the price text may be recorded now: known before they count, and never edited afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from domain import payload_hash
from domain.ids import price_event_id
from domain.prices import PriceBook
from schemas.charges import Meter, PriceSource
from schemas.prices import PriceRecorded

NOTICE = timedelta(minutes=10)
"""How long before its beginning a version must be recorded, so that no rater can have used the one before it."""


@dataclass(frozen=True, kw_only=True)
class WrittenPrice:
    """One version of one price as the reviewed text has it. `place` is `<file>:<line>`."""

    place: str
    price_id: str
    version: int
    meter: Meter
    unit_price: Decimal
    per: int
    currency: str
    effective_from: datetime
    source: PriceSource
    effective_until: datetime | None = None
    model: str | None = None
    region: str | None = None
    spec: str | None = None

    def recorded(self, at: datetime) -> PriceRecorded:
        """The event's data, recorded at `at`."""
        return PriceRecorded(
            price_id=self.price_id,
            version=self.version,
            meter=self.meter,
            unit_price=self.unit_price,
            per=self.per,
            currency=self.currency,
            effective_from=self.effective_from,
            recorded_at=at,
            source=self.source,
            model=self.model,
            region=self.region,
            spec=self.spec,
            effective_until=self.effective_until,
        )


class PriceTextRefused(ValueError):
    """The text contradicts what was recorded, or comes too late: `str()` names file and line, and what to do."""


def versions_to_record(
    text: Sequence[WrittenPrice], recorded: Iterable[PriceRecorded], now: datetime, *, file: str
) -> list[PriceRecorded]:
    """What `billing` must record now, in the order in which to record it. Raises PriceTextRefused.

    A version must begin at least NOTICE after `now`, unless no price was in force over the interval that it fills. So
    the first text of a platform is recorded whole. Of one price the latest interval comes first: if recording breaks
    off in between, each version that is left still fills an empty interval.
    """
    known = {(price.price_id, price.version): price for price in recorded}
    _refuse_edits(text, known, now, file)
    book = PriceBook(known.values())
    begins = {(price.price_id, price.effective_from) for price in known.values()}
    result: list[PriceRecorded] = []
    new = [written for written in text if (written.price_id, written.version) not in known]
    for written in sorted(new, key=lambda price: (price.effective_from, price.version), reverse=True):
        if (written.price_id, written.effective_from) in begins:
            raise PriceTextRefused(
                f"{written.place}: {_name(written)} begins when a recorded version begins; choose another instant"
            )
        price = written.recorded(now)
        if written.effective_from < now + NOTICE and _was_in_force(book, price):
            raise PriceTextRefused(
                f"{written.place}: {_name(written)} begins at {written.effective_from.isoformat()}, when another "
                f"version is in force and may have been used; let it begin at least "
                f"{NOTICE.seconds // 60} minutes after billing's start"
            )
        book.record(price)
        result.append(price)
    return result


def _name(written: WrittenPrice) -> str:
    return price_event_id(written.price_id, written.version)


def _refuse_edits(
    text: Sequence[WrittenPrice], known: dict[tuple[str, int], PriceRecorded], now: datetime, file: str
) -> None:
    found = {(written.price_id, written.version): written for written in text}
    for key, price in known.items():
        written = found.get(key)
        if written is None:
            raise PriceTextRefused(
                f"{file}: {price_event_id(*key)} was recorded and is gone from the text; put it back as it was"
            )
        if payload_hash.of_price(written.recorded(now)) != payload_hash.of_price(price):
            raise PriceTextRefused(
                f"{written.place}: {_name(written)} was recorded and has changed; put it back as it was and add a "
                f"new version instead"
            )


def _was_in_force(book: PriceBook, price: PriceRecorded) -> bool:
    """Whether any known version is in force at some instant of the interval that `price` would fill."""
    later = [other.effective_from for other in book.versions(price.price_id)]
    ends = [end for end in (*later, price.effective_until) if end is not None and end > price.effective_from]
    start, end = price.effective_from, min(ends, default=None)
    if book.price_at(price.price_id, start) is not None:
        return True
    # Nothing at its start, so only a version that begins inside could be in force: none does before `end`.
    return end is not None and any(
        book.price_at(price.price_id, edge) is not None for edge in book.boundaries(price.price_id, start, end)
    )
