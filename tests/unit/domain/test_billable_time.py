"""Billable time against an independent count: what the agent reported, not how the meter keeps it."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from domain import billable_time
from domain.billable_time import Meter, ProvenInterval
from schemas.heartbeats import InstanceHeartbeat, ReadyPeriod

T0 = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def beat(number: int, sent: float, *periods: ReadyPeriod, epoch: int = 1) -> InstanceHeartbeat:
    return InstanceHeartbeat(
        node="n-1", instance="i-1", epoch=epoch, beat=number, state="ready", sent=at(sent), periods=periods
    )


def period(number: int, began: float, seconds: int, closed: bool = False) -> ReadyPeriod:
    return ReadyPeriod(number=number, began=at(began), ready_seconds=seconds, closed=closed)


def spans(intervals: tuple[ProvenInterval, ...]) -> list[tuple[float, float]]:
    return [
        (
            (one.interval.billable_from - T0).total_seconds(),
            (one.interval.billable_until - T0).total_seconds(),
        )
        for one in intervals
    ]


def heard(*beats: InstanceHeartbeat, meter: Meter | None = None) -> Meter:
    meter = meter or Meter()
    for one in beats:
        meter = billable_time.heard(meter, one)
    return meter


def test_a_start_is_floored_and_the_length_is_what_the_monotonic_clock_proved() -> None:
    meter, intervals = billable_time.prove(heard(beat(1, 30, period(1, 10.9, 19))))
    assert spans(intervals) == [(10, 29)]
    meter, intervals = billable_time.prove(heard(beat(2, 36, period(1, 10.9, 25)), meter=meter))
    assert spans(intervals) == [(29, 35)]
    assert not intervals[0].interval.start_moved


def test_the_agents_clock_set_back_moves_the_start_and_marks_it() -> None:
    meter, _ = billable_time.prove(heard(beat(1, 30, period(1, 10, 20, closed=True))))
    _, intervals = billable_time.prove(heard(beat(2, 12, period(2, 5, 7)), meter=meter))
    assert spans(intervals) == [(30, 37)]
    assert intervals[0].interval.start_moved


def test_a_moved_period_goes_on_from_where_it_was_moved_to() -> None:
    meter, _ = billable_time.prove(heard(beat(1, 30, period(1, 10, 20, closed=True))))
    meter, _ = billable_time.prove(heard(beat(2, 12, period(2, 5, 7)), meter=meter))
    _, intervals = billable_time.prove(heard(beat(3, 17, period(2, 5, 12)), meter=meter))
    assert spans(intervals) == [(37, 42)]
    assert not intervals[0].interval.start_moved


def test_nothing_stamped_after_the_stop_counts_and_what_was_stamped_before_still_does() -> None:
    meter = heard(beat(1, 5, period(1, 0, 5)), beat(2, 11, period(1, 0, 11)))
    meter, intervals = billable_time.prove(billable_time.stop(meter, at(10)))
    assert spans(intervals) == [(0, 5)], "the second heartbeat was stamped after the stop, though read before it"
    meter = heard(beat(3, 8, period(1, 0, 8)), beat(4, 15, period(1, 0, 15)), meter=meter)
    assert billable_time.is_due(meter, 50)
    _, intervals = billable_time.prove(meter)
    assert spans(intervals) == [(5, 8)]


def test_an_interval_written_before_the_stop_stands() -> None:
    meter, intervals = billable_time.prove(heard(beat(1, 60, period(1, 0, 60))))
    _, later = billable_time.prove(billable_time.stop(meter, at(30)))
    assert spans(intervals) == [(0, 60)] and later == ()


def test_the_first_stop_stands() -> None:
    meter = billable_time.stop(billable_time.stop(Meter(), at(10)), at(20))
    assert meter.stopped_at == at(10)


def test_an_older_epoch_adds_nothing_once_a_newer_one_was_heard() -> None:
    meter = heard(beat(1, 5, period(1, 0, 5)), beat(1, 20, period(1, 15, 5), epoch=2))
    meter = heard(beat(2, 10, period(1, 0, 10)), meter=meter)
    _, intervals = billable_time.prove(meter)
    assert spans(intervals) == [(0, 5), (15, 20)]
    assert [one.epoch for one in intervals] == [1, 2]


def test_a_newer_epoch_makes_the_older_ones_time_due_at_once() -> None:
    meter = heard(beat(1, 5, period(1, 0, 5)))
    assert not billable_time.is_due(meter, 50)
    assert billable_time.is_due(heard(beat(1, 9, epoch=2), meter=meter), 50)


def test_an_earlier_stamp_that_arrives_late_decides_what_a_stop_leaves() -> None:
    meter = heard(beat(3, 20, period(1, 0, 5)), beat(2, 8, period(1, 0, 5)))
    _, intervals = billable_time.prove(billable_time.stop(meter, at(10)))
    assert spans(intervals) == [(0, 5)]


def test_what_lies_before_the_period_billed_last_is_settled_even_if_it_never_closed() -> None:
    meter, intervals = billable_time.prove(heard(beat(1, 30, period(1, 0, 5), period(2, 20, 10))))
    assert spans(intervals) == [(0, 5), (20, 30)]
    assert meter.settled == (1, 1)
    again, more = billable_time.prove(heard(beat(2, 40, period(1, 0, 9), period(2, 20, 10)), meter=meter))
    assert more == () and again == meter


def test_a_closed_period_without_a_second_is_settled_and_earns_nothing() -> None:
    meter = heard(beat(1, 5, period(1, 0, 0, closed=True)))
    assert billable_time.is_due(meter, 50)
    meter, intervals = billable_time.prove(meter)
    assert intervals == () and meter.settled == (1, 1) and meter.periods == ()


def test_it_is_due_by_time_by_a_transition_and_before_reports_pile_up() -> None:
    assert not billable_time.is_due(heard(beat(1, 49, period(1, 0, 49))), 50)
    assert billable_time.is_due(heard(beat(1, 50, period(1, 0, 50))), 50)
    assert billable_time.is_due(heard(beat(1, 3, period(1, 0, 3, closed=True))), 50)
    assert billable_time.is_due(heard(*(beat(n, n, period(1, 0, n)) for n in range(1, 65))), 1_000)


@dataclass
class Agent:
    """An agent as the design describes it, with a true history to compare with."""

    history: list[tuple[int, int, float, int]] = field(default_factory=list)  # epoch, number, began, seconds
    beats: list[InstanceHeartbeat] = field(default_factory=list)


def scripted_agent(dice: random.Random) -> Agent:
    agent = Agent()
    clock, wall_offset = 0.0, 0.0
    for epoch in range(1, dice.randint(1, 3) + 1):
        reports: list[ReadyPeriod] = []
        beat_number = 0
        for number in range(1, dice.randint(0, 4) + 1):
            clock += dice.uniform(0, 20)
            if dice.random() < 0.3:
                wall_offset += dice.uniform(-90, 90)
            began, length = clock + wall_offset, dice.uniform(0, 120)
            elapsed = 0.0
            while elapsed < length:
                elapsed = min(length, elapsed + dice.uniform(1, 12))
                open_report = ReadyPeriod(number=number, began=at(began), ready_seconds=int(elapsed))
                beat_number += 1
                agent.beats.append(beat(beat_number, clock + elapsed + wall_offset, *reports, open_report, epoch=epoch))
            clock += length
            reports.append(ReadyPeriod(number=number, began=at(began), ready_seconds=int(length), closed=True))
            agent.history.append((epoch, number, began, int(length)))
            beat_number += 1
            agent.beats.append(beat(beat_number, clock + wall_offset, *reports, epoch=epoch))
    return agent


def delivered(dice: random.Random, beats: list[InstanceHeartbeat]) -> list[InstanceHeartbeat]:
    """Lost, doubled and shuffled within an epoch, as retries can do it; epochs in order, as a partition keeps them."""
    result: list[InstanceHeartbeat] = []
    for epoch in sorted({one.epoch for one in beats}):
        own = [one for one in beats if one.epoch == epoch and dice.random() > 0.4]
        own += [one for one in own if dice.random() < 0.3]
        own.sort(key=lambda one: one.beat + dice.uniform(0, 6))
        result += own
    return result


@given(st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_whatever_is_lost_doubled_or_reordered_each_period_earns_the_most_that_was_heard(seed: int) -> None:
    dice = random.Random(seed)
    agent = scripted_agent(dice)
    arriving = delivered(dice, agent.beats)
    stop_at = at(dice.uniform(0, 500)) if dice.random() < 0.5 else None
    stop_before = dice.randint(0, len(arriving)) if stop_at else None
    meter, intervals, written_at_stop = Meter(), [], 0
    for index, one in enumerate(arriving):
        if index == stop_before and stop_at is not None:
            written_at_stop = len(intervals)
            meter = billable_time.stop(meter, stop_at)
        meter = billable_time.heard(meter, one)
        if billable_time.is_due(meter, 50) or dice.random() < 0.1:
            meter, more = billable_time.prove(meter)
            intervals += more
    if stop_before == len(arriving) and stop_at is not None:
        written_at_stop = len(intervals)
        meter = billable_time.stop(meter, stop_at)
    meter, more = billable_time.prove(meter)
    intervals += more

    def seconds_of(which: list[ProvenInterval], epoch: int, number: int) -> int:
        return sum(
            int((one.interval.billable_until - one.interval.billable_from).total_seconds())
            for one in which
            if (one.epoch, one.interval.period) == (epoch, number)
        )

    expected_end: datetime | None = None
    for epoch, number, began, _ in agent.history:
        counted = [one for one in arriving if one.epoch == epoch and (stop_at is None or one.sent < stop_at)]
        reported = max((p.ready_seconds for one in counted for p in one.periods if p.number == number), default=0)
        expected = max(reported, seconds_of(intervals[:written_at_stop], epoch, number))
        assert seconds_of(intervals, epoch, number) == expected
        mine = [one.interval for one in intervals if (one.epoch, one.interval.period) == (epoch, number)]
        if mine:
            start = at(began).replace(microsecond=0)
            moved = expected_end is not None and start < expected_end
            assert mine[0].billable_from == (expected_end if moved else start)
            assert mine[0].start_moved is moved
            assert not any(later.start_moved for later in mine[1:])
            assert all(a.billable_until == b.billable_from for a, b in pairwise(mine))
            expected_end = mine[-1].billable_until
    in_order = [one.interval for one in intervals]
    assert all(one.billable_from < one.billable_until for one in in_order)
    assert all(a.billable_until <= b.billable_from for a, b in pairwise(in_order))
    assert all(one.billable_from.microsecond == 0 == one.billable_until.microsecond for one in in_order)


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_hearing_everything_twice_changes_nothing(seed: int) -> None:
    dice = random.Random(seed)
    arriving = delivered(dice, scripted_agent(dice).beats)
    meter, _ = billable_time.prove(heard(*arriving))
    again, more = billable_time.prove(heard(*arriving, meter=meter))
    assert more == ()
    assert again.billed_until == meter.billed_until
