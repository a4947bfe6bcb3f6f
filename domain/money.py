"""Money: decimals of 12 places in a context in which nothing is rounded unseen. Never a float."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import lru_cache

PLACES = 12
QUANTUM = Decimal(1).scaleb(-PLACES)

EXACT = Context(prec=38, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
"""Raises Inexact where a result would be rounded. 38 digits is what ClickHouse's Decimal128 holds."""

_ROUNDED = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow, DivisionByZero])


def token_amount(quantity: int, price_per_million: Decimal) -> Decimal:
    """tokens x price / 10^6, exact because a price has at most 6 decimals (checked where prices are loaded)."""
    return EXACT.multiply(quantity, _per_token(price_per_million))


@lru_cache(maxsize=1024)
def _per_token(price_per_million: Decimal) -> Decimal:
    """With 12 places, so that any number of tokens times it has 12 as well."""
    return EXACT.quantize(EXACT.scaleb(price_per_million, -6), QUANTUM)


def hour_amount(seconds_into_hour: int, price_per_hour: Decimal) -> Decimal:
    """A(s) = price x s / 3600 rounded to 12 places, half to even; s is seconds since the UTC hour began, 0 to 3600."""
    if not 0 <= seconds_into_hour <= 3600:
        raise ValueError(f"seconds into the hour must be 0 to 3600, got {seconds_into_hour}")
    product = _ROUNDED.multiply(price_per_hour, Decimal(seconds_into_hour))
    return _ROUNDED.quantize(_ROUNDED.divide(product, Decimal(3600)), QUANTUM)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum at 12 places."""
    result = Decimal(0).quantize(QUANTUM)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def written(amount: Decimal) -> str:
    """The decimal as people and JSON see it: fixed point, never an exponent."""
    return format(amount, "f")


def shortest(amount: Decimal) -> str:
    """As `written`, without zeros behind the last decimal that says something. Every digit stays, however many there
    are: `Decimal.normalize` would round to the 28 of Python's own context."""
    if not amount:
        return "0"
    text = written(amount)
    return text.rstrip("0").rstrip(".") if "." in text else text
