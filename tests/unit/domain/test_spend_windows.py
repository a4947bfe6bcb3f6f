"""Stated totals to windows: replaced, never added."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import day_start, hour_start, month_start
from domain.spend_windows import AccountSpend, SpendWindows, Totals

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


HOURS = 24 * 366
BYTES_AN_HOUR_MAX = 24


@pytest.mark.parametrize("order", ["of time", "drawn"])
def test_a_year_of_hours_takes_little_memory(order: str) -> None:
    """An hour of 4 bytes, an offset of 4, an amount of 8, and what an array keeps free to grow."""
    hours = list(range(HOURS))
    if order == "drawn":
        random.Random(7).shuffle(hours)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        spend = AccountSpend(SHANGHAI)
        for number in hours:
            spend.state(THIS - number * HOUR, {"CNY": Decimal(number) / 1000}, number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spend.windows(NOW).spent_total == {"CNY": Decimal(sum(hours)) / 1000}
    assert (taken - before) / HOURS < BYTES_AN_HOUR_MAX


def test_an_amount_and_an_offset_larger_than_a_column_holds_lose_no_digit() -> None:
    spend = AccountSpend(SHANGHAI)
    large = Decimal("99999999999999999999.999999999999")
    spend.state(THIS - HOUR, cny("0.000000000001"), 5)
    spend.state(THIS, cny(str(large)), 2**53)
    assert spend.windows(NOW).spent_total == {"CNY": large + Decimal("0.000000000001")}
    assert spend.state(THIS, cny("1"), 2**53 - 1) is False
    assert spend.state(THIS - HOUR, cny("7"), 6) is True
    spend.state(THIS, cny("1"), 2**53)
    assert spend.windows(NOW).spent_total == cny("8")


def test_a_statement_that_money_cannot_hold_changes_nothing() -> None:
    spend = AccountSpend(SHANGHAI)
    spend.state(THIS, cny("1"), 1)
    before = spend.windows(NOW)
    with pytest.raises(ArithmeticError):
        spend.state(THIS, {"CNY": Decimal(2), "EUR": Decimal("1e-13")}, 2)
    with pytest.raises(ArithmeticError):
        spend.state(THIS - HOUR, {"CNY": Decimal(2), "EUR": Decimal("1e-13")}, 2)
    assert (spend.windows(NOW), spend.covers_offset) == (before, 1)


Statement = tuple[datetime, Totals, int]


def oracle(stated: list[Statement], now: datetime, zone: ZoneInfo) -> SpendWindows:
    """The same by the words of the contract: of each hour the last of those that cover most, added up in fractions."""
    last: dict[datetime, tuple[int, Totals]] = {}
    for hour, totals, offset in stated:
        if hour not in last or offset >= last[hour][0]:
            last[hour] = (offset, totals)

    def spent(within: Callable[[datetime], bool]) -> Totals:
        sums: dict[str, Fraction] = {}
        for hour, (_, totals) in last.items():
            for currency, amount in totals.items():
                sums[currency] = sums.get(currency, Fraction()) + (Fraction(amount) if within(hour) else 0)
        quanta = {currency: int(amount * 10**12) for currency, amount in sums.items() if amount}
        return {currency: Decimal(f"{amount}e-12") for currency, amount in quanta.items()}

    hour, day, month = hour_start(now), day_start(now, zone), month_start(now, zone)
    return SpendWindows(
        hour=hour,
        day=day,
        month=month,
        spent_hour=spent(lambda at: at == hour),
        spent_day=spent(lambda at: day_start(at, zone) == day),
        spent_month=spent(lambda at: month_start(at, zone) == month),
        spent_total=spent(lambda at: True),
    )


currencies = st.dictionaries(
    st.sampled_from(["CNY", "EUR", "USD"]), st.decimals(min_value=-(10**7), max_value=10**8, places=12), max_size=2
)
# Two days in hours, and months back and forth; 2^31 seconds and 2^32 offsets are no borders.
hours = st.one_of(st.integers(-40, 40), st.integers(-24 * 95, 24 * 40)).map(lambda back: THIS - back * HOUR)
offsets = st.one_of(st.integers(0, 6), st.integers(2**32 - 2, 2**32 + 2))
zones = st.sampled_from(["Asia/Shanghai", "UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])


@given(st.lists(st.tuples(hours, currencies, offsets), max_size=30), zones, st.integers(-3000, 3000), st.randoms())
def test_any_order_and_repetition_of_statements_gives_what_the_contract_says(
    stated: list[Statement], zone_name: str, minutes: int, chance: random.Random
) -> None:
    zone = ZoneInfo(zone_name)
    stated = stated + chance.sample(stated, k=len(stated) // 2)
    spend = AccountSpend(zone)
    for hour, totals, offset in stated:
        spend.state(hour, totals, offset)
    now = NOW + timedelta(minutes=minutes)
    assert spend.windows(now) == oracle(stated, now, zone)
    assert spend.covers_offset == max((offset for _, _, offset in stated), default=-1)
