"""Rating against amounts worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from domain import payload_hash
from domain.prices import PriceBook
from domain.rating import RATING_VERSIONS, Unratable, charges_for, instance_charges_for, rating_version_at
from schemas.charges import ChargesRaised, UnbilledReason
from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed, UsageOutcome
from tests.builders.billing_events import (
    NOON,
    deepseek_prices,
    hour_price,
    instance,
    instance_event,
    token_price,
    usage,
    usage_event,
)

PRICES = PriceBook([*deepseek_prices(), hour_price("10")])


def charged(data: TokensUsed, prices: PriceBook = PRICES) -> ChargesRaised:
    return charges_for(data, usage_event(data), prices)


def timed(data: InstanceChanged, prices: PriceBook = PRICES) -> ChargesRaised:
    return instance_charges_for(data, instance_event(data), prices)


def amounts(raised: ChargesRaised) -> dict[str, tuple[int, str]]:
    return {line.meter: (line.quantity, format(line.amount, "f")) for line in raised.lines}


def test_input_is_the_prompt_less_the_cached_tokens() -> None:
    assert amounts(charged(usage())) == {
        "input_tokens": (800, "0.003200000000"),
        "cached_input_tokens": (200, "0.000200000000"),
        "output_tokens": (500, "0.008000000000"),
    }


def test_all_prompt_tokens_are_input_where_the_engine_reports_no_cached_ones() -> None:
    assert amounts(charged(usage(cached_tokens=None))) == {
        "input_tokens": (1_000, "0.004000000000"),
        "output_tokens": (500, "0.008000000000"),
    }


def test_all_prompt_tokens_are_input_where_cached_ones_have_no_price() -> None:
    prices = PriceBook([token_price("input_tokens", "4"), token_price("output_tokens", "16")])
    assert amounts(charged(usage(), prices))["input_tokens"] == (1_000, "0.004000000000")
    assert len(charged(usage(), prices).lines) == 2


def test_a_cached_price_recorded_later_does_not_change_what_a_replay_gives() -> None:
    before = PriceBook([token_price("input_tokens", "4"), token_price("output_tokens", "16")])
    after = PriceBook(
        [
            token_price("input_tokens", "4"),
            token_price("output_tokens", "16"),
            token_price("cached_input_tokens", "1", recorded_at=NOON + timedelta(hours=1)),
        ]
    )
    assert charged(usage(), after) == charged(usage(), before)


def test_a_cached_price_recorded_with_the_others_after_the_request_counts() -> None:
    late = {"recorded_at": NOON + timedelta(hours=1)}
    prices = PriceBook(
        [
            token_price("input_tokens", "4", **late),
            token_price("output_tokens", "16", **late),
            token_price("cached_input_tokens", "1", **late),
        ]
    )
    assert amounts(charged(usage(), prices))["cached_input_tokens"] == (200, "0.000200000000")


def test_a_price_of_six_decimals_stays_exact_at_twelve_places() -> None:
    prices = PriceBook([token_price("input_tokens", "0.000001"), token_price("output_tokens", "123456.654321")])
    raised = charged(usage(prompt_tokens=1, cached_tokens=None, completion_tokens=7), prices)
    assert amounts(raised) == {
        "input_tokens": (1, "0.000000000001"),
        "output_tokens": (7, "0.864196580247"),
    }


def test_a_line_explains_itself() -> None:
    line = charged(usage()).lines[2]
    assert (line.id, line.price_id, line.price_version, line.per, line.unit_price, line.currency) == (
        "cmp-00000000000000000000000000000001/output_tokens/20261120T120000000000Z/1",
        "deepseek-r1/output_tokens",
        1,
        1_000_000,
        Decimal("16"),
        "CNY",
    )
    assert line.amount == line.quantity * line.unit_price / line.per


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"outcome": "refused", "billing": None, "model": None}, "refused"),
        ({"outcome": "engine_lost"}, "engine_lost"),
        ({"outcome": "engine_refused"}, "engine_refused"),
        ({"outcome": "gateway_lost"}, "gateway_lost"),
        ({"outcome": "upstream_timeout"}, "upstream_timeout"),
        ({"outcome": "client_gone_unreported"}, "no_report"),
        ({"outcome": "engine_lost", "billing": "time"}, "engine_lost"),
        ({"billing": "time"}, "billed_by_time"),
        ({"billing": "operator"}, "operator"),
        ({"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}, "no_report"),
        ({"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}, "no_tokens"),
    ],
)
def test_what_is_not_charged_says_why(fields: dict[str, object], reason: UnbilledReason) -> None:
    raised = charged(usage(**fields))
    assert (raised.unbilled, raised.lines) == (reason, ())


@pytest.mark.parametrize("outcome", ["completed", "client_gone"])
def test_a_client_that_leaves_pays_what_the_engine_reports(outcome: UsageOutcome) -> None:
    assert amounts(charged(usage(outcome=outcome, completion_tokens=3)))["output_tokens"] == (3, "0.000048000000")


def test_without_a_price_nothing_is_charged_and_never_zero() -> None:
    only_input = PriceBook([token_price("input_tokens", "4")])
    raised = charged(usage(), only_input)
    assert (raised.unbilled, raised.lines) == ("unpriced", ())
    assert amounts(charged(usage(completion_tokens=0), only_input)) == {"input_tokens": (1_000, "0.004000000000")}


def test_the_price_in_force_at_the_end_of_the_request_counts() -> None:
    change = NOON
    prices = PriceBook(
        [token_price("output_tokens", "16"), token_price("output_tokens", "20", version=2, effective_from=change)]
    )

    def price_of(ended: datetime) -> Decimal:
        return charged(usage(ended=ended, prompt_tokens=0, cached_tokens=0), prices).lines[0].unit_price

    assert price_of(change - timedelta(microseconds=1)) == 16
    assert price_of(change) == 20


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_tokens": -1, "cached_tokens": None},
        {"cached_tokens": 1_001},
        {"completion_tokens": 10**30},
        {"model": None},
        {"billing": None},
        {"ended": datetime(2026, 11, 20, 12, 0)},
        {"ended": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)},
    ],
)
def test_what_contradicts_the_contract_is_refused(fields: dict[str, object]) -> None:
    data = usage(**fields)
    with pytest.raises(Unratable):
        charges_for(data, msgspec.structs.replace(usage_event(usage()), data=data), PRICES)


def test_an_event_whose_id_is_another_request_is_refused() -> None:
    with pytest.raises(Unratable):
        charges_for(usage(1), usage_event(usage(2)), PRICES)


def test_ids_and_hashes_stay_as_they_were_first_published() -> None:
    """Any change here makes a replay disagree with what was charged: it needs a new rating version."""
    raised = charged(usage())
    assert raised.source_hash == "5162a28d401ddd1e7c6993693c862a7a"
    assert [line.payload_hash for line in raised.lines] == [
        "4d855fa5631e2cf59b023cffe0800988",
        "d783eda7a93bb050d32cea742101cb62",
        "74b892bb89664b069b1e483f4b623255",
    ]


def test_the_rules_are_chosen_by_event_time() -> None:
    assert rating_version_at(NOON) is RATING_VERSIONS[-1]
    with pytest.raises(Unratable):
        rating_version_at(datetime(1969, 1, 1, tzinfo=UTC))


def test_a_minute_of_an_instance() -> None:
    raised = timed(instance())
    (line,) = raised.lines
    assert (line.quantity, line.amount, line.unit) == (60, Decimal("0.166666666667"), "second")
    assert (line.segment_from, line.segment_until) == (NOON, NOON + timedelta(minutes=1))
    assert raised.resource == "i-0123456789ab"


def test_an_interval_is_cut_at_full_hours_and_each_hour_costs_the_price() -> None:
    raised = timed(instance(NOON - timedelta(minutes=30), NOON + timedelta(hours=2, seconds=1)))
    assert [(line.quantity, line.amount) for line in raised.lines] == [
        (1_800, Decimal("5")),
        (3_600, Decimal("10")),
        (3_600, Decimal("10")),
        (1, Decimal("0.002777777778")),
    ]


def test_an_interval_is_cut_where_the_price_changes() -> None:
    change = NOON + timedelta(minutes=20)
    prices = PriceBook([hour_price("10"), hour_price("12", version=2, effective_from=change)])
    raised = timed(instance(NOON, NOON + timedelta(hours=1)), prices)
    assert [(line.quantity, line.price_version, line.amount) for line in raised.lines] == [
        (1_200, 1, Decimal("3.333333333333")),
        (2_400, 2, Decimal("8.000000000000")),
    ]


def test_a_second_has_the_price_in_force_when_it_begins() -> None:
    change = NOON + timedelta(seconds=10, microseconds=1)
    prices = PriceBook([hour_price("10"), hour_price("12", version=2, effective_from=change)])
    raised = timed(instance(), prices)
    assert [(line.quantity, line.price_version) for line in raised.lines] == [(11, 1), (49, 2)]


def test_an_interval_with_a_gap_in_its_prices_is_unpriced_as_a_whole() -> None:
    prices = PriceBook([hour_price("10", effective_until=NOON + timedelta(seconds=30))])
    assert timed(instance(), prices).unbilled == "unpriced"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (instance(None), "not_billable"),
        (instance(NOON, NOON), "not_billable"),
        (instance(account="public", billing="operator"), "operator"),
        (instance(account="public", billing="token"), "operator"),
    ],
)
def test_instance_events_that_are_not_charged(data: InstanceChanged, reason: UnbilledReason) -> None:
    assert (timed(data).unbilled, timed(data).lines) == (reason, ())


@pytest.mark.parametrize(
    "data",
    [
        instance(NOON, NOON - timedelta(seconds=1)),
        instance(NOON + timedelta(microseconds=1), NOON + timedelta(minutes=1)),
        instance(NOON, NOON + timedelta(days=32)),
    ],
)
def test_impossible_intervals_are_refused(data: InstanceChanged) -> None:
    with pytest.raises(Unratable):
        timed(data)


def test_a_charge_s_hash_covers_its_source() -> None:
    first, second = charged(usage()), charged(usage(region="bj-01"))
    assert first.source_hash != second.source_hash
    assert [line.id for line in first.lines] == [line.id for line in second.lines]
    assert all(a.payload_hash != b.payload_hash for a, b in zip(first.lines, second.lines, strict=True))
    assert payload_hash.of_usage(usage(gateway="g-2")) == first.source_hash
