"""What is said of an instance, in which order, and what an agent that starts again still says."""

from __future__ import annotations

import pytest

from schemas import codec
from schemas.heartbeats import InstanceHeartbeat
from services.lifecycle.heartbeat_text import heartbeat_in
from services.worker.instance_report import InstanceReport
from services.worker.ready_periods import REPORTED_MAX
from services.worker.records import FinishedEpoch, InstanceRecord
from tests.unit.worker.moved_clock import MovedClock
from tests.unit.worker.one_instance import INSTANCE, Place


def new_report(place: Place) -> InstanceReport:
    return InstanceReport(place.site, InstanceRecord(instance=INSTANCE))


def started_again(place: Place) -> InstanceReport:
    """As by an agent that was killed: from its folder alone."""
    records, damaged = place.records.load_all()
    assert not damaged
    return InstanceReport(place.site, records[INSTANCE])


def ready_for(report: InstanceReport, clock: MovedClock, seconds: int) -> None:
    report.seen_ready()
    for _ in range(seconds):
        clock.pass_(1)
        report.seen_ready()


def said(report: InstanceReport) -> InstanceHeartbeat:
    heartbeat = report.heartbeat()
    assert heartbeat is not None
    return heartbeat


def shown(heartbeat: InstanceHeartbeat) -> tuple[int, int, str, list[tuple[int, int, bool]]]:
    periods = [(period.number, period.ready_seconds, period.closed) for period in heartbeat.periods]
    return heartbeat.epoch, heartbeat.beat, heartbeat.state, periods


def test_nothing_is_said_before_the_first_start(place: Place) -> None:
    assert new_report(place).heartbeat() is None


def test_beats_count_from_one_in_each_epoch(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    assert report.next_epoch(0) == 1
    assert shown(said(report)) == (1, 1, "loading", [])
    ready_for(report, clock, 3)
    heartbeat = said(report)
    assert shown(heartbeat) == (1, 2, "ready", [(1, 3, False)])
    report.failed("gone")
    last = said(report)
    report.acknowledged(last)
    assert report.next_epoch(0) == 2
    assert shown(said(report)) == (2, 1, "loading", [])


def test_an_epoch_is_told_to_its_end_before_the_next_one(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    for epoch in (1, 2):
        report.next_epoch(0)
        ready_for(report, clock, epoch)
        report.failed("gone")
    report.next_epoch(0)
    first = said(report)
    assert shown(first) == (1, 1, "failed", [(1, 1, True)])
    again = said(report)
    assert shown(again) == (1, 2, "failed", [(1, 1, True)]), "until Kafka has it"
    report.acknowledged(again)
    second = said(report)
    assert shown(second) == (2, 1, "failed", [(1, 2, True)])
    report.acknowledged(second)
    assert shown(said(report)) == (3, 1, "loading", [])


def test_a_heartbeat_of_before_the_end_is_not_the_last_word(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 2)
    before = said(report)
    clock.pass_(1)
    report.seen_ready()
    report.failed("gone")
    report.acknowledged(before)
    report.next_epoch(0)
    assert shown(said(report)) == (1, 2, "failed", [(1, 3, True)])


def test_an_agent_that_was_killed_goes_on_with_all_it_had_proven(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 4)
    said(report)
    clock.pass_(100)
    again = started_again(place)
    assert shown(said(again)) == (1, 2, "failed", [(1, 4, True)])
    assert again.next_epoch(0) == 2
    assert shown(said(again)) == (1, 3, "failed", [(1, 4, True)])


def test_epochs_are_never_used_twice(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    assert report.next_epoch(7) == 8, "lifecycle has heard of epoch 7"
    (place.folder / "instances" / f"{INSTANCE}.json").write_text("{ torn")
    records, damaged = place.records.load_all()
    assert damaged == [f"{INSTANCE}.json"]
    assert InstanceReport(place.site, records[INSTANCE]).next_epoch(0) == 9


def test_no_engine_starts_without_its_epoch_on_disk(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    (place.folder / "instances").rename(place.folder / "away")
    with pytest.raises(OSError, match="No such file"):
        report.next_epoch(0)
    assert report.epoch == 0


def test_more_periods_than_fit_are_told_oldest_first(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    for _ in range(REPORTED_MAX + 3):
        ready_for(report, clock, 1)
        report.seen_not_ready("no answer")
    heartbeat = said(report)
    assert [period.number for period in heartbeat.periods] == list(range(1, REPORTED_MAX + 1))
    report.acknowledge(1, REPORTED_MAX)
    assert [period.number for period in said(report).periods] == [REPORTED_MAX + 1, REPORTED_MAX + 2, REPORTED_MAX + 3]


def test_what_lifecycle_has_billed_of_an_earlier_epoch_is_told_no_more(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    for _ in range(2):
        ready_for(report, clock, 1)
        report.seen_not_ready("no answer")
    report.failed("gone")
    report.next_epoch(0)
    report.acknowledge(1, 1)
    assert shown(said(report)) == (1, 1, "failed", [(2, 1, True)])
    report.acknowledge(1, 2)
    assert shown(said(report)) == (2, 1, "loading", [])


def test_no_check_counts_once_it_leaves(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 2)
    report.leaving("draining")
    clock.pass_(2)
    report.seen_ready()
    assert shown(said(report)) == (1, 1, "draining", [(1, 2, True)])


def test_an_end_is_over_once_kafka_has_all_of_it(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 2)
    report.leaving("draining")
    draining = said(report)
    report.ended()
    report.acknowledged(draining)
    assert not report.is_over
    report.acknowledged(said(report))
    assert report.is_over
    report.retire()
    assert started_again(place).is_over


def test_an_end_that_was_not_told_is_told_by_the_next_agent(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 2)
    report.ended()
    again = started_again(place)
    assert shown(said(again)) == (1, 1, "ended", [(1, 2, True)])
    assert not again.is_over


def test_each_change_of_state_is_news_and_repeats_are_not(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    report.loading("127.0.0.1:1")
    ready_for(report, clock, 3)
    assert place.news == [INSTANCE, INSTANCE]


def test_an_agent_without_room_on_its_disk_goes_on(place: Place, clock: MovedClock) -> None:
    report = new_report(place)
    report.next_epoch(0)
    (place.folder / "instances").rename(place.folder / "away")
    ready_for(report, clock, 2)
    assert shown(said(report)) == (1, 1, "ready", [(1, 2, False)])


def heard(heartbeat: InstanceHeartbeat) -> InstanceHeartbeat:
    """As lifecycle reads it."""
    event = codec.event(heartbeat, id="x", source="/hydra/worker", subject=INSTANCE, time=heartbeat.sent)
    read = heartbeat_in(codec.encode(event))
    assert isinstance(read, InstanceHeartbeat)
    return read


def test_no_reason_costs_an_instance_its_ready_seconds(place: Place, clock: MovedClock) -> None:
    """Lifecycle refuses a heartbeat whole, its seconds too, for a detail that is too long or holds a NUL."""
    report = new_report(place)
    report.next_epoch(0)
    ready_for(report, clock, 3)
    report.seen_not_ready("no\0answer" + "r" * 1_048_576)
    current = said(report)
    assert heard(current) == current
    assert current.detail is not None and current.detail.startswith("no\N{REPLACEMENT CHARACTER}answerr")
    report.failed("\0" * 5_000)
    report.next_epoch(0)
    of_finished = said(report)
    assert shown(heard(of_finished)) == (1, 2, "failed", [(1, 3, True)])


def test_no_reason_that_an_earlier_agent_kept_costs_ready_seconds(place: Place, clock: MovedClock) -> None:
    before = new_report(place)
    before.next_epoch(0)
    ready_for(before, clock, 3)
    periods = said(before).periods
    kept = FinishedEpoch(epoch=1, beat=1, detail="\0" + "r" * 5_000, periods=periods)
    place.records.save(InstanceRecord(instance=INSTANCE, epoch=2, finished=(kept,)))
    assert heard(said(started_again(place))).periods == periods
