"""What a node agent's folder says to the next agent, above all where the last one died between two of its files."""

from __future__ import annotations

import pytest

from domain import billable_time
from domain.billable_time import Meter
from schemas.heartbeats import InstanceHeartbeat, ReadyPeriod
from services.worker.instance_report import InstanceReport
from services.worker.records import EngineProcessRecord, FinishedEpoch, InstanceRecord
from tests.unit.worker.moved_clock import MovedClock
from tests.unit.worker.one_instance import INSTANCE, Place


def period(clock: MovedClock, number: int = 1, *, closed: bool = True) -> ReadyPeriod:
    return ReadyPeriod(number=number, began=clock.now(), ready_seconds=30, closed=closed)


def epoch_four(*periods: ReadyPeriod, finished: tuple[FinishedEpoch, ...] = ()) -> InstanceRecord:
    return InstanceRecord(
        instance=INSTANCE, epoch=4, beat=7, state="failed", detail="gone", periods=periods, finished=finished
    )


def died_in_next_epoch(place: Place, record: InstanceRecord) -> None:
    """The folder of an agent that has numbered epoch 5 and not written its record since."""
    place.records.save(record)
    place.records.save_epoch(INSTANCE, 5)


def loaded(place: Place) -> InstanceRecord:
    records, damaged = place.records.load_all()
    assert not damaged
    return records[INSTANCE]


def all_said(report: InstanceReport) -> list[InstanceHeartbeat]:
    """What lifecycle hears, until Kafka has it all: at last one heartbeat of the current epoch."""
    said = []
    while True:
        is_last = not report.has_finished
        heartbeat = report.heartbeat()
        assert heartbeat is not None
        report.acknowledged(heartbeat)
        said.append(heartbeat)
        if is_last:
            return said


def test_periods_stay_with_their_epoch_when_the_next_one_was_only_numbered(place: Place, clock: MovedClock) -> None:
    proven = period(clock)
    died_in_next_epoch(place, epoch_four(proven))
    record = loaded(place)
    assert (record.epoch, record.beat, record.periods, record.state, record.detail) == (5, 0, (), "loading", None)
    assert record.finished == (FinishedEpoch(epoch=4, beat=7, detail="gone", periods=(proven,)),)
    first, second = all_said(InstanceReport(place.site, record))
    assert (first.epoch, first.beat, first.state, first.periods) == (4, 8, "failed", (proven,))
    assert (second.epoch, second.beat, second.state, second.periods) == (5, 1, "failed", ())


@pytest.mark.parametrize("closed", [True, False])
def test_seconds_are_billed_once_when_the_next_epoch_was_only_numbered(
    place: Place, clock: MovedClock, closed: bool
) -> None:
    record = epoch_four(period(clock, closed=closed))
    before = InstanceHeartbeat(
        node="n-000000000001",
        instance=INSTANCE,
        epoch=4,
        beat=7,
        state="ready",
        sent=clock.now(),
        periods=record.periods,
    )
    meter, billed = billable_time.prove(billable_time.heard(Meter(), before))
    died_in_next_epoch(place, record)
    clock.pass_(100)
    for heartbeat in all_said(InstanceReport(place.site, loaded(place))):
        meter, more = billable_time.prove(billable_time.heard(meter, heartbeat))
        billed += more
    spans = [one.interval.billable_until - one.interval.billable_from for one in billed]
    assert [span.total_seconds() for span in spans] == [30]


def test_a_period_that_was_still_open_on_disk_is_closed(place: Place, clock: MovedClock) -> None:
    died_in_next_epoch(place, epoch_four(period(clock, 1), period(clock, 2, closed=False)))
    (finished,) = loaded(place).finished
    assert finished.periods == (period(clock, 1), period(clock, 2))


def test_an_epoch_that_was_never_ready_is_told_too_and_only_the_latest_such(place: Place, clock: MovedClock) -> None:
    ready = FinishedEpoch(epoch=2, beat=3, detail="gone", periods=(period(clock),))
    never_ready = FinishedEpoch(epoch=3, beat=3, detail="gone")
    died_in_next_epoch(place, epoch_four(finished=(ready, never_ready)))
    assert [finished.epoch for finished in loaded(place).finished] == [2, 4]


def test_what_lifecycle_has_billed_of_it_is_told_no_more(place: Place, clock: MovedClock) -> None:
    died_in_next_epoch(place, epoch_four(period(clock, 1), period(clock, 2)))
    report = InstanceReport(place.site, loaded(place))
    report.acknowledge(4, 1)
    assert [(said.epoch, [one.number for one in said.periods]) for said in all_said(report)] == [(4, [2]), (5, [])]


def test_the_next_agent_and_the_one_after_it_read_the_same(place: Place, clock: MovedClock) -> None:
    died_in_next_epoch(place, epoch_four(period(clock)))
    first = loaded(place)
    assert loaded(place) == first
    report = InstanceReport(place.site, first)
    assert report.next_epoch(0) == 6
    assert [finished.epoch for finished in loaded(place).finished] == [4, 5]


def test_an_engine_that_may_still_run_is_still_named(place: Place, clock: MovedClock) -> None:
    record = epoch_four(period(clock))
    record.process = EngineProcessRecord(pid=1, start_ticks=2, boot="b")
    died_in_next_epoch(place, record)
    assert loaded(place).process == record.process


def test_files_that_agree_are_read_as_they_are(place: Place, clock: MovedClock) -> None:
    record = epoch_four(period(clock, closed=False))
    place.records.save(record)
    place.records.save_epoch(INSTANCE, 4)
    assert loaded(place) == record


def test_a_record_of_no_epoch_yet_takes_the_number_alone(place: Place) -> None:
    place.records.save(InstanceRecord(instance=INSTANCE))
    place.records.save_epoch(INSTANCE, 1)
    assert loaded(place) == InstanceRecord(instance=INSTANCE, epoch=1)


@pytest.mark.parametrize("torn", [True, False])
def test_without_a_record_that_can_be_read_the_epoch_alone_is_known(place: Place, torn: bool) -> None:
    place.records.save_epoch(INSTANCE, 5)
    if torn:
        (place.folder / "instances" / f"{INSTANCE}.json").write_text("{ torn")
    records, damaged = place.records.load_all()
    assert damaged == ([f"{INSTANCE}.json"] if torn else [])
    assert records == {INSTANCE: InstanceRecord(instance=INSTANCE, epoch=5)}


def test_a_number_that_cannot_be_read_leaves_the_record_as_it_is(place: Place, clock: MovedClock) -> None:
    record = epoch_four(period(clock))
    place.records.save(record)
    (place.folder / "instances" / f"{INSTANCE}.epoch").write_text("torn")
    records, damaged = place.records.load_all()
    assert damaged == [f"{INSTANCE}.epoch"]
    assert records == {INSTANCE: record}
