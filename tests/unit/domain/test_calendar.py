"""Hours in UTC, days and months in the platform's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from domain.calendar import day_start, hour_start, month_bounds, month_start, utc

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


def test_shanghai_s_day_begins_at_sixteen_utc() -> None:
    assert day_start(datetime(2026, 11, 20, 15, 59, 59, tzinfo=UTC), SHANGHAI) == datetime(2026, 11, 19, 16, tzinfo=UTC)
    assert day_start(datetime(2026, 11, 20, 16, tzinfo=UTC), SHANGHAI) == datetime(2026, 11, 20, 16, tzinfo=UTC)


def test_shanghai_s_month_begins_on_the_last_day_of_utc_s() -> None:
    assert month_start(datetime(2026, 11, 30, 16, tzinfo=UTC), SHANGHAI) == datetime(2026, 11, 30, 16, tzinfo=UTC)
    assert month_start(datetime(2026, 11, 30, 15, tzinfo=UTC), SHANGHAI) == datetime(2026, 10, 31, 16, tzinfo=UTC)
    assert month_bounds("2026-12", SHANGHAI) == (
        datetime(2026, 11, 30, 16, tzinfo=UTC),
        datetime(2026, 12, 31, 16, tzinfo=UTC),
    )


def test_a_day_of_summer_time_s_change_has_twenty_three_hours() -> None:
    first = day_start(datetime(2026, 3, 29, 12, tzinfo=UTC), BERLIN)
    after = day_start(datetime(2026, 3, 30, 12, tzinfo=UTC), BERLIN)
    assert after - first == timedelta(hours=23)


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "26-01", "2026-01-01", "", "next"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(ValueError):
        month_bounds(month, SHANGHAI)


def test_an_hour_begins_on_utc_s_hour_whatever_the_offset() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert hour_start(datetime(2026, 11, 20, 12, 10, tzinfo=kathmandu)) == datetime(2026, 11, 20, 6, tzinfo=UTC)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError):
        utc(datetime(2026, 11, 20))
