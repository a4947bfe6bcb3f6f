"""Which price is in force when."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations

import msgspec
import pytest

from domain.money import token_amount
from domain.prices import InvalidPrice, PriceBook, PriceEdited, time_price_id, token_price_id
from domain.token_lines import TOKENS_MAX
from tests.builders.billing_events import LONG_AGO, MODEL, NOON, REGION, SPEC, hour_price, token_price

ID = token_price_id(MODEL, "input_tokens")
HOUR = timedelta(hours=1)


def version_at(book: PriceBook, instant: datetime) -> int | None:
    price = book.price_at(ID, instant)
    return price.version if price else None


def test_an_interval_is_half_open() -> None:
    book = PriceBook([token_price("input_tokens", "4", effective_from=NOON, effective_until=NOON + HOUR)])
    tick = timedelta(microseconds=1)
    assert [version_at(book, instant) for instant in (NOON - tick, NOON, NOON + HOUR - tick, NOON + HOUR)] == [
        None,
        1,
        1,
        None,
    ]


def test_an_open_end_stands_until_a_later_version_begins() -> None:
    book = PriceBook(
        [
            token_price("input_tokens", "4"),
            token_price("input_tokens", "5", 2, effective_from=NOON, effective_until=NOON + HOUR),
        ]
    )
    assert [version_at(book, NOON - HOUR), version_at(book, NOON), version_at(book, NOON + HOUR)] == [1, 2, None]


def test_a_promotion_inside_a_closed_interval_gives_way_to_it_again() -> None:
    book = PriceBook(
        [
            token_price("input_tokens", "4", effective_until=NOON + 9 * HOUR),
            token_price("input_tokens", "2", 2, effective_from=NOON, effective_until=NOON + HOUR),
        ]
    )
    assert [version_at(book, NOON - HOUR), version_at(book, NOON), version_at(book, NOON + HOUR)] == [1, 2, 1]


def test_a_gap_that_is_filled_later_changes_no_other_instant() -> None:
    early = token_price("input_tokens", "4", effective_until=NOON)
    late = token_price("input_tokens", "6", 2, effective_from=NOON + 2 * HOUR)
    filled = token_price("input_tokens", "5", 3, effective_from=NOON)
    instants = [NOON - HOUR, NOON, NOON + HOUR, NOON + 2 * HOUR, NOON + 100 * HOUR]
    assert [version_at(PriceBook([early, late]), instant) for instant in instants] == [1, None, None, 2, 2]
    assert [version_at(PriceBook([early, late, filled]), instant) for instant in instants] == [1, 3, 3, 2, 2]


def test_the_order_of_recording_does_not_matter() -> None:
    versions = [
        token_price("input_tokens", "4"),
        token_price("input_tokens", "5", 2, effective_from=NOON),
        token_price("input_tokens", "6", 3, effective_from=NOON + HOUR),
    ]
    instants = [LONG_AGO - HOUR, LONG_AGO, NOON, NOON + HOUR]
    for order in permutations(versions):
        assert [version_at(PriceBook(order), instant) for instant in instants] == [None, 1, 2, 3]


def test_a_repeat_changes_nothing_and_an_edit_is_refused_with_the_first_kept() -> None:
    book = PriceBook()
    assert book.record(token_price("input_tokens", "4")) is True
    assert book.record(token_price("input_tokens", "4")) is False
    with pytest.raises(PriceEdited):
        book.record(token_price("input_tokens", "5"))
    price = book.price_at(ID, NOON)
    assert (price.unit_price if price else None, len(book)) == (Decimal("4"), 1)


def test_boundaries_lie_strictly_inside_and_in_order() -> None:
    book = PriceBook(
        [
            token_price("input_tokens", "4", effective_until=NOON + 2 * HOUR),
            token_price("input_tokens", "5", 2, effective_from=NOON + HOUR),
            token_price("input_tokens", "6", 3, effective_from=NOON + 3 * HOUR),
        ]
    )
    assert book.boundaries(ID, NOON, NOON + 3 * HOUR) == (NOON + HOUR, NOON + 2 * HOUR)
    assert book.boundaries(ID, NOON + HOUR, NOON + 2 * HOUR) == ()
    assert book.boundaries("unknown", NOON, NOON + HOUR) == ()


def test_prices_of_others_are_not_seen() -> None:
    book = PriceBook([token_price("input_tokens", "4", model="glm-4-9b-chat"), hour_price("10")])
    assert version_at(book, NOON) is None
    assert book.price_at(time_price_id(REGION, SPEC), NOON) is not None
    assert book.price_ids() == ("glm-4-9b-chat/input_tokens", "sh-02/gpu-1/instance_seconds")


@pytest.mark.parametrize(
    "fields",
    [
        {"unit_price": Decimal("0.0000001")},
        {"unit_price": Decimal("1." + "0" * 28 + "1")},
        {"unit_price": Decimal("4." + "0" * 13)},
        {"unit_price": Decimal("0E-13")},
        {"unit_price": Decimal("-1")},
        {"unit_price": Decimal("-0")},
        {"unit_price": Decimal("NaN")},
        {"unit_price": Decimal("1e13")},
        {"per": 1000},
        {"effective_until": LONG_AGO},
        {"effective_from": datetime(2026, 1, 1)},
        {"currency": ""},
    ],
)
def test_what_nothing_can_be_rated_by_is_refused(fields: dict[str, object]) -> None:
    price = msgspec.structs.replace(token_price("input_tokens", "4"), **fields)
    book = PriceBook()
    with pytest.raises(InvalidPrice):
        book.record(price)
    assert len(book) == 0


@pytest.mark.parametrize("text", ["1." + "0" * 28 + "1", "1." + "0" * 11 + "11"])
def test_a_time_price_of_too_many_decimals_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrice):
        PriceBook().record(hour_price(text))


def test_the_finest_and_largest_prices_are_taken_and_rated() -> None:
    for text in ("1000000000000", "999999999999.999999", "0.000001", "0"):
        assert PriceBook().record(token_price("input_tokens", text)) is True
        assert token_amount(TOKENS_MAX, Decimal(text)) == Decimal(text) * 10**6
    assert PriceBook().record(hour_price("999999999999.999999999999")) is True


def test_trailing_zeros_are_no_decimals() -> None:
    assert PriceBook().record(token_price("input_tokens", "4.00000000")) is True
