"""Stated totals to windows: replaced, never added."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from domain.spend_windows import AccountSpend, Totals

SHANGHAI = ZoneInfo("Asia/Shanghai")
HOUR = timedelta(hours=1)
# 01:00 of 20 November in Shanghai.
NOW = datetime(2026, 11, 19, 17, 30, tzinfo=UTC)
THIS = NOW.replace(minute=0)


def cny(amount: str) -> Totals:
    return {"CNY": Decimal(amount)}


def test_windows_follow_the_zone_and_the_total_has_all() -> None:
    spend = AccountSpend(SHANGHAI)
    spend.state(THIS, cny("1"), 10)
    spend.state(THIS - HOUR, cny("2"), 11)  # 00:00 of the same day
    spend.state(THIS - 2 * HOUR, cny("4"), 12)  # 23:00 of the day before
    spend.state(datetime(2026, 10, 31, 15, tzinfo=UTC), cny("8"), 13)  # 23:00 of 31 October
    windows = spend.windows(NOW)
    assert (windows.spent_hour, windows.spent_day) == (cny("1"), cny("3"))
    assert (windows.spent_month, windows.spent_total) == (cny("7"), cny("15"))
    assert windows.day == datetime(2026, 11, 19, 16, tzinfo=UTC)
    assert spend.covers_offset == 13


def test_an_hour_s_total_replaces_the_one_before_it() -> None:
    spend = AccountSpend(SHANGHAI)
    assert spend.state(THIS, cny("1"), 1) is True
    assert spend.state(THIS, cny("1"), 1) is False
    assert spend.state(THIS, cny("5"), 3) is True
    assert spend.state(THIS, cny("3"), 2) is False
    assert spend.windows(NOW).spent_total == cny("5")


def test_of_two_totals_that_cover_the_same_the_later_stands_even_when_it_is_less() -> None:
    spend = AccountSpend(SHANGHAI)
    spend.state(THIS, cny("5"), 3)
    assert spend.state(THIS, {}, 3) is True
    assert spend.windows(NOW).spent_total == {}
    assert spend.windows(NOW).spent_hour == {}


def test_currencies_do_not_mix() -> None:
    spend = AccountSpend(SHANGHAI)
    spend.state(THIS, {"CNY": Decimal("1"), "EUR": Decimal("2")}, 1)
    spend.state(THIS - HOUR, {"EUR": Decimal("3")}, 2)
    assert spend.windows(NOW).spent_total == {"CNY": Decimal("1"), "EUR": Decimal("5")}


def test_windows_move_with_the_clock() -> None:
    spend = AccountSpend(SHANGHAI)
    spend.state(THIS, cny("1"), 1)
    assert spend.windows(NOW + HOUR).spent_hour == {}
    assert spend.windows(NOW + HOUR).spent_day == cny("1")
    assert spend.windows(NOW + 24 * HOUR).spent_day == {}
    assert spend.windows(NOW + 24 * HOUR * 31).spent_month == {}
    assert spend.windows(NOW + 24 * HOUR * 31).spent_total == cny("1")


amounts = st.decimals(min_value=0, max_value=10**9, places=12)
statements = st.lists(st.tuples(st.integers(0, 60), amounts, st.integers(0, 20)), max_size=40)


@given(statements, st.integers(0, 3))
def test_replays_in_the_same_order_change_nothing(stated: list[tuple[int, Decimal, int]], replays: int) -> None:
    spend = AccountSpend(SHANGHAI)
    for _ in range(replays + 1):
        for back, amount, offset in stated:
            spend.state(THIS - back * HOUR, {"CNY": amount}, offset)
    last: dict[int, tuple[int, Decimal]] = {}
    for back, amount, offset in stated:
        if back not in last or offset >= last[back][0]:
            last[back] = (offset, amount)
    expected = sum((Fraction(amount) for _, amount in last.values()), Fraction())
    assert Fraction(spend.windows(NOW).spent_total.get("CNY", Decimal(0))) == expected
