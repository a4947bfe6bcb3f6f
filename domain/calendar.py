"""Hours, days and months: UTC hours for money, days and months in the platform's time zone for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)


def utc(instant: datetime) -> datetime:
    """The same instant in UTC. Raises ValueError for one without a time zone, which could be any instant."""
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return instant.astimezone(UTC)


def hour_start(instant: datetime) -> datetime:
    """When the UTC hour that holds `instant` began."""
    return utc(instant).replace(minute=0, second=0, microsecond=0)


def day_start(instant: datetime, zone: ZoneInfo) -> datetime:
    """The UTC instant at which the day of `zone` that holds `instant` began."""
    local = utc(instant).astimezone(zone)
    return datetime(local.year, local.month, local.day, tzinfo=zone).astimezone(UTC)


def month_start(instant: datetime, zone: ZoneInfo) -> datetime:
    """The UTC instant at which the month of `zone` that holds `instant` began."""
    local = utc(instant).astimezone(zone)
    return datetime(local.year, local.month, 1, tzinfo=zone).astimezone(UTC)


def month_bounds(month: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """`YYYY-MM` as the half-open UTC interval that it is in `zone`. Raises ValueError for anything else."""
    first = datetime.strptime(month, "%Y-%m")
    if first.strftime("%Y-%m") != month:
        raise ValueError(f"{month!r} is not a month written as YYYY-MM")
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.replace(tzinfo=zone).astimezone(UTC), following.replace(tzinfo=zone).astimezone(UTC)


def is_whole_second(instant: datetime) -> bool:
    return instant.microsecond == 0
