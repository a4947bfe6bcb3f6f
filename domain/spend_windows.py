"""What an account has spent this hour, day and month and in all, from one stated total per UTC hour.

Totals are replaced, never added, so repeats, replays and another order change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from domain.calendar import day_start, hour_start, month_start
from domain.money import EXACT, QUANTUM

_ZERO = Decimal(0).quantize(QUANTUM)
_SURELY_TOMORROW = timedelta(hours=30)  # from a day's beginning: days have 23 to 25 hours

Totals = dict[str, Decimal]
"""Amounts by currency; a currency of which nothing was spent is absent."""


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


@dataclass(frozen=True)
class _Hour:
    totals: Totals
    covers_offset: int


class AccountSpend:
    """All hours of one account. An hour counts whole to the day and month of `zone` in which it begins."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._months: dict[datetime, dict[datetime, _Hour]] = {}
        self._total: Totals = {}
        self.covers_offset = -1

    def state(self, hour: datetime, totals: Totals, covers_offset: int) -> bool:
        """Take one stated total; False where one that covers more stated this hour before.

        Of two that cover the same offset the later statement stands: a conflict changes an hour without a new charge.
        """
        hour = hour_start(hour)
        hours = self._months.setdefault(month_start(hour, self._zone), {})
        known = hours.get(hour)
        if known is not None and known.covers_offset > covers_offset:
            return False
        before = known.totals if known else {}
        if known == _Hour(totals, covers_offset):
            return False
        self._total = _sum([self._total, totals, {currency: -amount for currency, amount in before.items()}])
        hours[hour] = _Hour(totals, covers_offset)
        self.covers_offset = max(self.covers_offset, covers_offset)
        return True

    def windows(self, now: datetime) -> SpendWindows:
        """The windows that hold `now`."""
        hour, day, month = hour_start(now), day_start(now, self._zone), month_start(now, self._zone)
        hours = self._months.get(month, {})
        next_day = day_start(day + _SURELY_TOMORROW, self._zone)
        today = [known.totals for at, known in hours.items() if day <= at < next_day]
        return SpendWindows(
            hour=hour,
            day=day,
            month=month,
            spent_hour=_sum([hours[hour].totals] if hour in hours else []),
            spent_day=_sum(today),
            spent_month=_sum(known.totals for known in hours.values()),
            spent_total=self._total,
        )


def _sum(parts: Iterable[Totals]) -> Totals:
    result: Totals = {}
    for part in parts:
        for currency, amount in part.items():
            result[currency] = EXACT.add(result.get(currency, _ZERO), amount)
    return {currency: amount for currency, amount in result.items() if amount}
