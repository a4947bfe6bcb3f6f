from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest

from domain.price_recording import PriceTextRefused, WrittenPrice, versions_to_record
from domain.prices import PriceBook
from schemas.prices import PriceRecorded

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def version(number: int, begin: datetime, until: datetime | None = None, price: str = "4") -> WrittenPrice:
    return WrittenPrice(
        place=f"prices.yaml:{number * 10}",
        price_id="m/input_tokens",
        version=number,
        meter="input_tokens",
        unit_price=Decimal(price),
        per=1_000_000,
        currency="CNY",
        effective_from=begin,
        effective_until=until,
        source="example",
        model="m",
    )


def to_record(text: list[WrittenPrice], recorded: list[PriceRecorded], now: datetime = NOW) -> list[int]:
    return [price.version for price in versions_to_record(text, recorded, now, file="prices.yaml")]


def at(*written: WrittenPrice) -> list[PriceRecorded]:
    return [price.recorded(NOW - 100 * DAY) for price in written]


OLD = version(1, NOW - 30 * DAY)


def test_a_platform_that_has_recorded_none_records_the_whole_text() -> None:
    text = [OLD, version(2, NOW - 10 * DAY), version(3, NOW + DAY)]
    assert sorted(to_record(text, [])) == [1, 2, 3]


def test_what_is_recorded_is_not_recorded_again() -> None:
    assert to_record([OLD], at(OLD)) == []


def test_a_first_recording_that_broke_off_anywhere_is_completed() -> None:
    text = [OLD, version(2, NOW - 10 * DAY, NOW - 5 * DAY), version(3, NOW + DAY)]
    whole = versions_to_record(text, [], NOW, file="prices.yaml")
    for done in range(len(whole) + 1):
        rest = versions_to_record(text, whole[:done], NOW + timedelta(seconds=1), file="prices.yaml")
        assert [price.version for price in whole[:done] + rest] == [price.version for price in whole]


@pytest.mark.parametrize(("seconds", "allowed"), [(600, True), (599, False), (0, False), (-DAY.total_seconds(), False)])
def test_a_later_version_must_begin_ten_minutes_after_it_is_recorded(seconds: float, allowed: bool) -> None:
    new = version(2, NOW + timedelta(seconds=seconds), price="5")
    if allowed:
        assert to_record([OLD, new], at(OLD)) == [2]
    else:
        with pytest.raises(PriceTextRefused, match=r"prices\.yaml:20: m/input_tokens@2 begins .* 10 minutes"):
            to_record([OLD, new], at(OLD))


def test_a_past_interval_in_which_nothing_was_in_force_may_be_filled() -> None:
    ended = version(1, NOW - 30 * DAY, NOW - 20 * DAY)
    fills = version(2, NOW - 20 * DAY, NOW - 10 * DAY)
    before = version(3, NOW - 50 * DAY)
    assert sorted(to_record([ended, fills, before], at(ended))) == [2, 3]


def test_a_past_interval_that_touches_one_in_force_may_not() -> None:
    ended = version(1, NOW - 30 * DAY, NOW - 20 * DAY)
    with pytest.raises(PriceTextRefused):
        to_record([ended, version(2, NOW - 21 * DAY)], at(ended))


def test_a_version_may_not_begin_where_a_recorded_one_does() -> None:
    future = version(1, NOW + DAY)
    with pytest.raises(PriceTextRefused, match="begins when a recorded version begins"):
        to_record([future, replace(future, version=2)], at(future))


@pytest.mark.parametrize(
    "changed",
    [
        replace(OLD, unit_price=Decimal("4.01")),
        replace(OLD, currency="USD"),
        replace(OLD, effective_from=OLD.effective_from + DAY),
        replace(OLD, effective_until=NOW + DAY),
        replace(OLD, source="published"),
    ],
)
def test_a_recorded_version_is_never_edited(changed: WrittenPrice) -> None:
    with pytest.raises(PriceTextRefused, match=r"prices\.yaml:10: m/input_tokens@1 was recorded and has changed"):
        to_record([changed], at(OLD))


def test_another_spelling_of_the_same_price_is_no_change() -> None:
    assert to_record([replace(OLD, place="elsewhere.yaml:3")], at(OLD)) == []


def test_a_recorded_version_may_not_leave_the_text() -> None:
    with pytest.raises(PriceTextRefused, match=r"prices\.yaml: m/input_tokens@1 was recorded and is gone"):
        to_record([], at(OLD))


def test_no_recording_changes_a_price_that_was_in_force() -> None:
    """Whatever is allowed: at every instant before the notice, what was in force stays in force."""
    recorded = [version(1, NOW - 30 * DAY, NOW - 20 * DAY), version(2, NOW - 10 * DAY)]
    instants = [NOW + timedelta(hours=hour) for hour in range(-24 * 60, 1)]
    edges = [NOW + days * DAY for days in (-40, -30, -25, -20, -15, -10, -5, 2)]
    for begin, until in [(b, None) for b in edges] + [p for p in permutations(edges, 2) if p[0] < p[1]]:
        new = version(3, begin, until, "7")
        try:
            added = versions_to_record([*recorded, new], at(*recorded), NOW, file="prices.yaml")
        except PriceTextRefused:
            continue
        before, after = PriceBook(at(*recorded)), PriceBook([*at(*recorded), *added])
        for instant in instants:
            was = before.price_at("m/input_tokens", instant)
            assert was is None or after.price_at("m/input_tokens", instant) == was
