"""What an account has spent this hour, day and month and in all, from one stated total per UTC hour.

Totals are replaced, never added, so repeats, replays and another order change nothing. A late statement may replace any
hour, however old, so none is ever folded into another: each keeps its own amount, in about 17 bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias
from zoneinfo import ZoneInfo

from domain.calendar import day_start, hour_start, month_start
from domain.money import EXACT, PLACES, QUANTUM

_SURELY_TOMORROW = timedelta(hours=30)  # from a day's beginning: days have 23 to 25 hours
_SURELY_NEXT_MONTH = timedelta(days=32)  # from a month's beginning
_HOUR_S = 3600

Totals = dict[str, Decimal]
"""Amounts by currency; a currency of which nothing was spent is absent."""

_Column: TypeAlias = "array[int] | list[int]"
_WIDER = {"i": "q", "I": "q"}


@dataclass(frozen=True)
class SpendWindows:
    """What was spent in the windows that hold one instant, and when they began (UTC)."""

    hour: datetime
    day: datetime
    month: datetime
    spent_hour: Totals
    spent_day: Totals
    spent_month: Totals
    spent_total: Totals


class AccountSpend:
    """All hours of one account. An hour counts whole to the day and month of `zone` in which it begins.

    They are kept as columns in the order of time, not as objects: an account that spends in every hour has 8,760 of
    them a year, and all are in memory. Amounts are whole quanta of money (`PLACES` decimals).
    """

    __slots__ = ("_amounts", "_hours", "_offsets", "_total", "_zone", "covers_offset")

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._hours: _Column = array("i")  # since 1970, ascending; the other columns are in the same order
        self._offsets: _Column = array("I")
        self._amounts: dict[str, _Column] = {}
        self._total: dict[str, int] = {}
        self.covers_offset = -1

    def state(self, hour: datetime, totals: Totals, covers_offset: int) -> bool:
        """Take one stated total; False where one that covers more stated this hour before.

        Of two that cover the same offset the later statement stands: a conflict changes an hour without a new charge.
        """
        number = _first_hour_from(hour_start(hour))
        stated = {currency: quanta for currency, amount in totals.items() if (quanta := _quanta(amount))}
        at = bisect_left(self._hours, number)
        if at < len(self._hours) and self._hours[at] == number:
            known = self._offsets[at]
            if known > covers_offset or (known == covers_offset and stated == self._spent(at, at + 1)):
                return False
            self._offsets = _put(self._offsets, at, covers_offset)
        else:
            self._hours = _inserted(self._hours, at, number)
            self._offsets = _inserted(self._offsets, at, covers_offset)
            self._amounts = {currency: _inserted(column, at, 0) for currency, column in self._amounts.items()}
        self._replace(at, stated)
        self.covers_offset = max(self.covers_offset, covers_offset)
        return True

    def windows(self, now: datetime) -> SpendWindows:
        """The windows that hold `now`."""
        hour, day, month = hour_start(now), day_start(now, self._zone), month_start(now, self._zone)
        next_day = day_start(day + _SURELY_TOMORROW, self._zone)
        next_month = month_start(month + _SURELY_NEXT_MONTH, self._zone)
        return SpendWindows(
            hour=hour,
            day=day,
            month=month,
            spent_hour=self._spent_between(hour, hour + timedelta(hours=1)),
            spent_day=self._spent_between(day, next_day),
            spent_month=self._spent_between(month, next_month),
            spent_total=_totals(self._total),
        )

    def _replace(self, at: int, stated: dict[str, int]) -> None:
        for currency in stated.keys() - self._amounts.keys():
            self._amounts[currency] = array("q", bytes(8 * len(self._hours)))
        for currency, column in self._amounts.items():
            quanta = stated.get(currency, 0)
            self._total[currency] = self._total.get(currency, 0) + quanta - column[at]
            self._amounts[currency] = _put(column, at, quanta)

    def _spent_between(self, start: datetime, end: datetime) -> Totals:
        """What was spent in the hours that begin in `[start, end)`."""
        first, behind = (bisect_left(self._hours, _first_hour_from(instant)) for instant in (start, end))
        return _totals(self._spent(first, behind))

    def _spent(self, first: int, behind: int) -> dict[str, int]:
        sums = {currency: sum(column[first:behind]) for currency, column in self._amounts.items()}
        return {currency: quanta for currency, quanta in sums.items() if quanta}


def _first_hour_from(instant: datetime) -> int:
    """The number of the first UTC hour that begins at `instant` or after it; a day may begin within an hour."""
    return -(-int(instant.timestamp()) // _HOUR_S)


def _quanta(amount: Decimal) -> int:
    """The amount in units of QUANTUM. Raises where it has more places than money has."""
    return int(EXACT.scaleb(EXACT.quantize(amount, QUANTUM), PLACES))


def _totals(quanta: dict[str, int]) -> Totals:
    return {currency: EXACT.scaleb(Decimal(amount), -PLACES) for currency, amount in quanta.items() if amount}


def _put(column: _Column, at: int, value: int) -> _Column:
    """The column with one value replaced; a wider one where the value does not fit it."""
    try:
        column[at] = value
    except OverflowError:
        return _put(_widened(column), at, value)
    return column


def _inserted(column: _Column, at: int, value: int) -> _Column:
    try:
        column.insert(at, value)
    except OverflowError:
        return _inserted(_widened(column), at, value)
    return column


def _widened(column: _Column) -> _Column:
    """A copy that holds larger integers: of 64 bits, then, as a list, of any size. It costs memory, never a digit."""
    if isinstance(column, array) and column.typecode in _WIDER:
        return array(_WIDER[column.typecode], column)
    return list(column)
