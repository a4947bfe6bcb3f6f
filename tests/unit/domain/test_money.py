"""Money against fractions, and the property that a split changes no sum."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, Inexact
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import EXACT, hour_amount, shortest, token_amount, total, written
from domain.prices import PriceBook
from domain.rating import instance_charges_for
from tests.builders.billing_events import NOON, hour_price, instance, instance_event

token_prices = st.decimals(min_value=0, max_value=100_000, places=6)
hour_prices = st.decimals(min_value=0, max_value=100_000, places=12)


@given(st.integers(0, 10**12), token_prices)
def test_tokens_times_price_is_exact(tokens: int, price: Decimal) -> None:
    amount = token_amount(tokens, price)
    assert Fraction(amount) == tokens * Fraction(price) / 10**6
    assert amount.as_tuple().exponent == -12


def test_a_price_of_seven_decimals_is_not_rounded_unseen() -> None:
    with pytest.raises(Inexact):
        token_amount(1, Decimal("0.0000001"))


@given(st.integers(0, 3600), hour_prices)
def test_time_is_rounded_to_twelve_places_half_to_even(seconds: int, price: Decimal) -> None:
    exact = Fraction(price) * seconds / 3600
    scaled = exact * 10**12
    assert Fraction(hour_amount(seconds, price)) == Fraction(round(scaled), 10**12)


@given(hour_prices)
def test_a_full_hour_costs_the_price(price: Decimal) -> None:
    assert hour_amount(3600, price) - hour_amount(0, price) == price


@pytest.mark.parametrize("seconds", [-1, 3601])
def test_seconds_outside_an_hour_are_refused(seconds: int) -> None:
    with pytest.raises(ValueError):
        hour_amount(seconds, Decimal(1))


@given(
    price=hour_prices,
    start=st.integers(0, 7_200),
    length=st.integers(1, 20_000),
    cuts=st.lists(st.integers(0, 30_000), max_size=8),
    change=st.integers(0, 30_000),
    changed=hour_prices,
)
def test_any_split_of_an_interval_gives_the_same_sum(
    price: Decimal, start: int, length: int, cuts: list[int], change: int, changed: Decimal
) -> None:
    prices = PriceBook(
        [
            hour_price(str(price)),
            hour_price(str(changed), version=2, effective_from=NOON + timedelta(seconds=change)),
        ]
    )

    def cost(first: int, last: int) -> Decimal:
        data = instance(NOON + timedelta(seconds=first), NOON + timedelta(seconds=last))
        return total(line.amount for line in instance_charges_for(data, instance_event(data), prices).lines)

    edges = sorted({start, start + length} | {cut for cut in cuts if start < cut < start + length})
    parts = total(cost(first, last) for first, last in pairwise(edges))
    assert parts == cost(start, start + length)


def test_sums_are_exact_and_overflow_is_loud() -> None:
    assert total([]) == 0
    assert written(total([Decimal("0.1")] * 10)) == "1.000000000000"
    with pytest.raises(Inexact):
        total([Decimal(10) ** 27, Decimal("0.000000000001")])


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("12345678901234567.123456789012", "12345678901234567.123456789012"),
        ("99999999999999999999999999.999999999999", "99999999999999999999999999.999999999999"),
        ("1.000000000000", "1"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("0.048000000000", "0.048"),
        ("0E-12", "0"),
        ("-0.00", "0"),
        ("-2.50", "-2.5"),
    ],
)
def test_the_shortest_text_of_an_amount_keeps_every_digit(amount: str, text: str) -> None:
    assert shortest(Decimal(amount)) == text


def test_amounts_are_written_without_an_exponent() -> None:
    assert written(EXACT.multiply(Decimal("1e-12"), Decimal(1))) == "0.000000000001"
