"""What checks prove of an engine's ready time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.ready_periods import KEPT_MAX, ReadyPeriods
from tests.unit.worker.moved_clock import MovedClock

GAP_MAX_S = 15.0


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def periods(clock: MovedClock) -> ReadyPeriods:
    return ReadyPeriods(clock, GAP_MAX_S)


def seen(clock: MovedClock, periods: ReadyPeriods, *pauses: float) -> None:
    """A successful check after each pause."""
    for pause in pauses:
        clock.pass_(pause)
        periods.seen_ready()


def shown(periods: ReadyPeriods) -> list[tuple[int, int, bool]]:
    return [(period.number, period.ready_seconds, period.closed) for period in periods.unacknowledged()]


def test_a_period_reaches_from_the_first_to_the_last_success(clock: MovedClock, periods: ReadyPeriods) -> None:
    began = clock.now()
    seen(clock, periods, 0, 2, 2.5)
    clock.pass_(1.9)
    assert shown(periods) == [(1, 4, False)]
    assert periods.unacknowledged()[0].began == began


def test_a_closed_period_ends_at_its_last_success_not_when_it_is_closed(
    clock: MovedClock, periods: ReadyPeriods
) -> None:
    seen(clock, periods, 0, 2, 2)
    clock.pass_(9)
    periods.close()
    assert shown(periods) == [(1, 4, True)]
    periods.close()
    seen(clock, periods, 1, 2)
    assert shown(periods) == [(1, 4, True), (2, 2, False)]


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 0.5, -86_400.0])
def test_a_jump_of_the_wall_clock_inside_a_period_changes_nothing(
    clock: MovedClock, periods: ReadyPeriods, jump: float
) -> None:
    began = clock.now()
    seen(clock, periods, 0, 2)
    clock.jump(jump)
    seen(clock, periods, 2, 2)
    period = periods.unacknowledged()[0]
    assert (period.began, period.ready_seconds) == (began, 6)


def test_the_wall_clock_places_only_the_start_of_the_next_period(clock: MovedClock, periods: ReadyPeriods) -> None:
    seen(clock, periods, 0, 5)
    periods.close()
    clock.jump(-60)
    seen(clock, periods, 1, 4)
    first, second = periods.unacknowledged()
    assert second.began == first.began + timedelta(seconds=6 - 60)
    assert (first.ready_seconds, second.ready_seconds) == (5, 4)


def test_successes_too_far_apart_prove_nothing_between_them(clock: MovedClock, periods: ReadyPeriods) -> None:
    seen(clock, periods, 0, 2, GAP_MAX_S, GAP_MAX_S + 0.1, 2)
    assert shown(periods) == [(1, 17, True), (2, 2, False)]


def test_acknowledged_periods_are_gone_and_numbers_go_on(clock: MovedClock, periods: ReadyPeriods) -> None:
    for _ in range(3):
        seen(clock, periods, 0, 2)
        periods.close()
    periods.acknowledge(2)
    seen(clock, periods, 0, 1)
    assert shown(periods) == [(3, 2, True), (4, 1, False)]
    periods.acknowledge(4)
    assert shown(periods) == [(4, 1, False)], "an open period is never forgotten"


def test_periods_of_an_earlier_run_are_closed_and_counted_on(clock: MovedClock, periods: ReadyPeriods) -> None:
    seen(clock, periods, 0, 3)
    again = ReadyPeriods(clock, GAP_MAX_S, periods.unacknowledged())
    seen(clock, again, 5, 1)
    assert shown(again) == [(1, 3, True), (2, 1, False)]


def test_past_the_bound_no_period_is_opened(clock: MovedClock, periods: ReadyPeriods) -> None:
    for _ in range(KEPT_MAX + 5):
        seen(clock, periods, 0, 1)
        periods.close()
    assert len(periods.unacknowledged()) == KEPT_MAX
    periods.acknowledge(5)
    seen(clock, periods, 0, 1)
    assert shown(periods)[-1] == (KEPT_MAX + 1, 1, False)


@given(
    st.lists(st.tuples(st.floats(0.01, 40), st.sampled_from(["ready", "not ready"]), st.floats(-1e5, 1e5)), max_size=60)
)
def test_never_more_seconds_than_monotonic_time_between_successes(
    steps: list[tuple[float, str, float]],
) -> None:
    clock = MovedClock()
    periods = ReadyPeriods(clock, GAP_MAX_S)
    proven, last = 0.0, None
    for pause, outcome, jump in steps:
        clock.pass_(pause)
        clock.jump(jump)
        if outcome == "ready":
            periods.seen_ready()
            now = clock.monotonic()
            proven += now - last if last is not None and now - last <= GAP_MAX_S else 0
            last = now
        else:
            periods.close()
            last = None
    reported = sum(period.ready_seconds for period in periods.unacknowledged())
    assert reported <= proven + 1e-6
    assert reported > proven - len(periods.unacknowledged()) - 1e-6
