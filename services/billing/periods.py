"""The interval that a question is about: a month of the platform's time zone, or from one instant to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from adapters.http_errors import ApiError
from adapters.http_paging import is_plausible
from domain.calendar import month_bounds


@dataclass(frozen=True)
class Period:
    """Half-open, in UTC; `month` is set where it is one."""

    start: datetime
    end: datetime
    month: str | None = None


@dataclass(frozen=True)
class Periods:
    """Reads the query parameters `month`, `from` and `until`; without any it is the current month."""

    zone: ZoneInfo
    days_max: int

    def of_month(self, month: str | None, now: datetime) -> Period:
        """A month as YYYY-MM. Raises ApiError 400."""
        month = month or f"{now.astimezone(self.zone):%Y-%m}"
        try:
            start, end = month_bounds(month, self.zone)
        except (ValueError, OverflowError) as error:
            raise ApiError(
                400, "invalid_request", "`month` is no month.", field="month", what_to_do="Write it as YYYY-MM."
            ) from error
        return Period(start, end, month)

    def of(self, month: str | None, start: datetime | None, end: datetime | None, now: datetime) -> Period:
        """An interval. `from` alone reaches to now, `until` alone back to its month's beginning."""
        if month is not None or (start is None and end is None):
            if start is not None or end is not None:
                raise ApiError(400, "invalid_request", "Give `month`, or `from` and `until`, not both.", field="month")
            return self.of_month(month, now)
        for name, instant in (("from", start), ("until", end)):
            if instant is not None and instant.tzinfo is None:
                raise ApiError(
                    400,
                    "invalid_request",
                    f"`{name}` has no UTC offset.",
                    field=name,
                    what_to_do="Write it as 2026-01-01T00:00:00+08:00 (with + as %2B in a URL), or with Z for UTC.",
                )
        for name, instant in (("from", start), ("until", end)):
            if instant is not None and not is_plausible(instant):
                raise ApiError(400, "invalid_request", f"`{name}` is in no year that is billed.", field=name)
        end = end or now
        return self.between(start or self.of_month(f"{end.astimezone(self.zone):%Y-%m}", now).start, end)

    def between(self, start: datetime, end: datetime, field: str = "until") -> Period:
        """From one instant to another, both with their offsets. Raises ApiError 400 for too long a time or none."""
        if not timedelta(0) < end - start <= timedelta(days=self.days_max):
            raise ApiError(
                400,
                "invalid_request",
                f"`until` must be after `from`, and at most {self.days_max} days.",
                field=field,
            )
        return Period(start, end)
