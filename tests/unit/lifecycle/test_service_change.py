"""One transaction's change of a service, without a database: which events gather, and in which state they leave it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from domain.billable_time import Meter
from domain.deployment import Service
from schemas.heartbeats import EngineState, InstanceHeartbeat, ReadyPeriod
from services.lifecycle.metrics import INTERVALS, WRITTEN_OFF
from services.lifecycle.records import InstanceRecord, ServiceRecord
from services.lifecycle.service_change import ServiceChange

T0 = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
NODE, NAME = "n-0123456789ab", "i-0123456789ab"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def change(*held: InstanceRecord, now: float = 0, **changes: object) -> ServiceChange:
    service = Service(
        service_id="s-0123456789ab",
        account="u-0123456789ab",
        name="test",
        model="phi-4",
        region="sh-02",
        spec="l20-1x48g",
        billing="time",
        created=T0,
        replicas=1,
    )
    return ServiceChange(ServiceRecord(service=replace(service, **changes)), held, now=at(now))  # type: ignore[arg-type]


def record(**changes: object) -> InstanceRecord:
    made = InstanceRecord(instance=NAME, service_id="s-0123456789ab", node=NODE, created=T0, placement_version=1)
    return replace(made, **changes)  # type: ignore[arg-type]


def beat(
    number: int, state: EngineState, *periods: ReadyPeriod, sent: float, epoch: int = 1, node: str = NODE
) -> InstanceHeartbeat:
    return InstanceHeartbeat(
        node=node,
        instance=NAME,
        epoch=epoch,
        beat=number,
        state=state,
        sent=at(sent),
        address="127.0.0.1:31000",
        periods=periods,
        detail="it is broken" if state in ("failed", "not_ready") else None,
    )


def period(seconds: int, *, closed: bool = False) -> ReadyPeriod:
    return ReadyPeriod(number=1, began=T0, ready_seconds=seconds, closed=closed)


def hear(one: ServiceChange, *beats: InstanceHeartbeat) -> InstanceRecord:
    for heartbeat in beats:
        one.heard(heartbeat, interval_s=50)
    return one.instances[NAME]


def test_a_heartbeat_older_than_the_newest_changes_no_state() -> None:
    after = hear(
        change(record()), beat(3, "not_ready", sent=15), beat(2, "ready", sent=10), beat(9, "ready", sent=9, epoch=0)
    )
    assert (after.state, after.epoch, after.beat) == ("starting", 1, 3)


def test_another_nodes_word_on_the_instance_is_ignored() -> None:
    one = change(record())
    assert hear(one, beat(1, "ready", period(5), sent=5, node="n-ffffffffffff")) == record()


def test_pending_time_is_written_with_the_transition_and_the_period_acknowledged() -> None:
    after = hear(
        change(record()),
        beat(1, "ready", period(1), sent=1),
        beat(2, "ready", period(30), sent=30),
        beat(3, "not_ready", period(33, closed=True), sent=35),
    )
    assert after.meter.billed_until == at(33)
    assert after.meter.settled == (1, 1)
    assert (after.state, after.reason, after.placement_version) == ("not_ready", "it is broken", 2)


def test_the_reason_goes_when_it_is_ready_again() -> None:
    after = hear(change(record()), beat(1, "failed", sent=1), beat(1, "ready", period(1), sent=9, epoch=2))
    assert after.reason is None


def test_draining_stops_the_meter_at_that_instant_and_never_restarts() -> None:
    one = change(record(), now=20)
    hear(one, beat(1, "ready", period(5), sent=5), beat(2, "ready", period(25), sent=25))
    one.drain(NAME, limit_s=60, reason="scaled down")
    drained = one.instances[NAME]
    assert (drained.state, drained.wanted, drained.drain_until) == ("draining", "draining", at(80))
    assert drained.meter.billed_until == at(5), "the second heartbeat was stamped after the stop"
    later = hear(one, beat(3, "ready", period(15), sent=15), beat(4, "ready", period(70), sent=70))
    assert (later.state, later.meter.billed_until) == ("draining", at(15))


def test_what_no_agent_has_reported_ends_at_once() -> None:
    one = change(record())
    one.drain(NAME, limit_s=60, reason="scaled down")
    assert (one.instances[NAME].state, one.instances[NAME].wanted) == ("ended", "ended")


def test_late_time_of_an_ended_instance_still_counts_and_of_a_written_off_one_never() -> None:
    stopped = Meter(epoch=1, stopped_at=at(50))
    ended = record(state="ended", wanted="ended", epoch=1, beat=9, meter=stopped)
    assert hear(change(ended), beat(5, "ready", period(40), sent=40)).meter.billed_until == at(40)
    lost = record(state="written_off", wanted="ended", epoch=1, beat=9)
    assert hear(change(lost), beat(10, "ready", period(40), sent=40)) == lost


def test_a_repeat_of_everything_changes_nothing() -> None:
    beats = (beat(1, "loading", sent=0), beat(2, "ready", period(60), sent=60))
    first = hear(change(record()), *beats)
    again = change(first)
    assert hear(again, *beats) == first
    assert not again.settle().service.failures


def test_a_start_that_never_succeeds_keeps_the_agents_word() -> None:
    one = change(record(), now=5)
    hear(one, *(beat(1, "failed", sent=epoch, epoch=epoch) for epoch in (1, 2, 3)))
    one.give_up(NAME, "its engine failed to start 3 times: it is broken")
    assert one.instances[NAME].wanted == "ended"
    assert one.service.failures == 1 and one.service.retry_at == at(15)
    assert one.service.reason is not None and "it is broken" in one.service.reason


def test_what_is_only_sketched_is_not_counted() -> None:
    """The reconciler judges every service without writing first: each instance given up would count twice."""
    before = WRITTEN_OFF._value.get(), INTERVALS._value.get()
    one = change(record())
    hear(one, beat(1, "ready", period(10), sent=10))
    one.lost(NAME, "nothing was heard of it for 45 s")
    assert one.instances[NAME].state == "written_off" and one.changes_anything
    assert (WRITTEN_OFF._value.get(), INTERVALS._value.get()) == before
