"""The machines of services and instances: commands, and random lives that must keep to the tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import deployment
from domain.deployment import Instance, Refused, Service
from schemas.deployments import ServiceStatus
from schemas.heartbeats import EngineState
from schemas.instances import InstanceState
from schemas.placements import PlacementWanted

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def service(**changes: object) -> Service:
    return replace(
        Service(
            service_id="s-1",
            account="u-1",
            name="test",
            model="phi-4",
            region="sh-02",
            spec="h100.1x80",
            billing="time",
            created=NOW,
            replicas=2,
        ),
        **changes,  # type: ignore[arg-type]
    )


def instance(name: str, state: InstanceState, wanted: PlacementWanted = "running", age: int = 0) -> Instance:
    return Instance(instance=name, state=state, wanted=wanted, created=NOW - timedelta(seconds=age))


@pytest.mark.parametrize(("asked", "now", "after"), [("3", 1, 3), ("+2", 1, 3), ("+0", 2, 2), (" 5 ", 1, 5)])
def test_a_number_sets_and_a_plus_adds(asked: str, now: int, after: int) -> None:
    assert deployment.replicas_after(asked, now, most=8) == after


@pytest.mark.parametrize("asked", ["0", "-1", "+", "", "two", "9", "+8", "1.5", "1e1", "٣", "99999999999"])
def test_other_replicas_are_refused_with_a_reason(asked: str) -> None:
    with pytest.raises(Refused) as refusal:
        deployment.replicas_after(asked, 1, most=8)
    assert refusal.value.code == "invalid_replicas"


def test_deleting_needs_the_name_letter_for_letter() -> None:
    for confirm in (None, "", "tes", "Test", "test "):
        with pytest.raises(Refused, match="final"):
            deployment.delete(service(), confirm)
    assert deployment.delete(service(), "test").desired == "deleted"


def test_nothing_is_accepted_once_deleting() -> None:
    gone = deployment.delete(service(), "test")
    for command in (deployment.start, deployment.stop, lambda one: deployment.scale(one, "3", most=8)):
        with pytest.raises(Refused, match="being deleted"):
            command(gone)


def test_a_stopped_service_keeps_its_replicas_for_the_next_start() -> None:
    stopped = deployment.stop(service(replicas=3))
    assert stopped.instances_wanted == 0
    assert deployment.start(stopped).instances_wanted == 3
    with pytest.raises(Refused, match="Start it"):
        deployment.scale(stopped, "4", most=8)


def test_scaling_down_ends_what_is_not_ready_first_then_the_youngest() -> None:
    there = [instance("i-old", "ready", age=9), instance("i-young", "ready", age=1), instance("i-sick", "not_ready")]
    decided = deployment.decide(service(replicas=1), there, NOW)
    assert decided.drain == ("i-sick", "i-young")


def test_what_drains_is_not_counted_and_what_is_missing_is_placed() -> None:
    there = [instance("i-a", "ready"), instance("i-b", "draining", "draining"), instance("i-c", "written_off")]
    assert deployment.decide(service(), there, NOW) == deployment.Decision(place=1)


def test_a_failing_start_waits_longer_each_time_and_then_the_service_is_failed() -> None:
    one = deployment.start_failed(service(), "the engine exits with 1", NOW)
    assert deployment.decide(one, [], NOW).place == 0
    assert one.retry_at is not None
    assert deployment.decide(one, [], one.retry_at).place == 2
    assert deployment.observed(one, []).status == "deploying"
    two = deployment.start_failed(one, "the engine exits with 1", NOW)
    assert two.retry_at is not None and two.retry_at > one.retry_at
    assert deployment.observed(two, []).status == "failed"
    assert two.reason == "the engine exits with 1"
    assert deployment.observed(deployment.start(two), []).status == "deploying"


def test_failed_starts_are_counted_from_the_last_epoch_that_was_ready() -> None:
    assert deployment.failed_starts(epoch=1, ready_epoch=0, engine="loading") == 0
    assert deployment.failed_starts(epoch=3, ready_epoch=0, engine="failed") == 3
    assert deployment.failed_starts(epoch=5, ready_epoch=4, engine="loading") == 0
    assert deployment.failed_starts(epoch=4, ready_epoch=4, engine="failed") == 0


@pytest.mark.parametrize("engine", ["ended", "failed"])
def test_what_is_to_end_has_ended_once_its_engine_is_gone(engine: EngineState) -> None:
    assert deployment.instance_after("draining", "draining", engine) == "ended"
    assert deployment.instance_after("draining", "ended", engine) == "ended"
    assert deployment.instance_after("ready", "running", engine) == "not_ready"


def test_degraded_is_told_from_deploying_by_having_been_ready() -> None:
    assert deployment.observed(service(), [instance("i-a", "starting")]).status == "deploying"
    assert deployment.observed(service(), [instance("i-a", "ready")]).status == "degraded"
    assert deployment.observed(service(ever_ready=True), []).status == "degraded"
    assert deployment.observed(service(replicas=1), [instance("i-a", "ready")]).status == "running"


@given(
    st.sampled_from(get_args(InstanceState)),
    st.sampled_from(get_args(PlacementWanted)),
    st.sampled_from(get_args(EngineState)),
)
def test_an_instances_state_changes_only_as_the_table_says(
    state: InstanceState, wanted: PlacementWanted, engine: EngineState
) -> None:
    if state == "draining" and wanted == "running":
        return  # no command turns draining back
    after = deployment.instance_after(state, wanted, engine)
    assert after == state or after in deployment.INSTANCE_STATE_AFTER[state]
    assert (after == "ready") <= (engine == "ready" and wanted == "running" and state not in deployment.GONE) or (
        after == state
    )


class ServiceLife(RuleBasedStateMachine):
    """Commands, reconciling and what engines do, in any order: every change of status is in the table."""

    @initialize(replicas=st.integers(1, 4))
    def deployed(self, replicas: int) -> None:
        self.now = NOW
        self.made = 0
        self.instances: dict[str, Instance] = {}
        self.service = service(replicas=replicas)

    def _changed(self, after: Service) -> None:
        after = deployment.observed(after, self.instances.values())
        before: ServiceStatus = self.service.status
        assert after.status == before or after.status in deployment.STATUS_AFTER[before], (before, after.status)
        self.service = after

    @rule(asked=st.sampled_from(["1", "2", "4", "+1", "+3"]))
    def scale(self, asked: str) -> None:
        try:
            self._changed(deployment.scale(self.service, asked, most=6))
        except Refused as refusal:
            assert refusal.code in ("service_stopped", "service_deleting", "invalid_replicas")

    @rule(command=st.sampled_from(["start", "stop"]))
    def switch(self, command: str) -> None:
        try:
            self._changed({"start": deployment.start, "stop": deployment.stop}[command](self.service))
        except Refused as refusal:
            assert refusal.code == "service_deleting"

    @rule()
    def delete(self) -> None:
        self._changed(deployment.delete(self.service, "test"))

    @rule(seconds=st.integers(0, 400))
    def reconcile(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        decision = deployment.decide(self.service, self.instances.values(), self.now)
        for _ in range(decision.place):
            self.made += 1
            name = f"i-{self.made}"
            self.instances[name] = Instance(instance=name, state="placed", wanted="running", created=self.now)
        for name in decision.drain:
            self.instances[name] = replace(self.instances[name], state="draining", wanted="draining")
        self._changed(self.service)
        kept = [one for one in self.instances.values() if one.wanted == "running" and one.state not in deployment.GONE]
        assert len(kept) <= self.service.instances_wanted

    @rule(pick=st.integers(0, 50), engine=st.sampled_from(get_args(EngineState)))
    def report(self, pick: int, engine: EngineState) -> None:
        if not self.instances:
            return
        name = sorted(self.instances)[pick % len(self.instances)]
        one = self.instances[name]
        self.instances[name] = replace(one, state=deployment.instance_after(one.state, one.wanted, engine))
        self._changed(self.service)

    @rule(pick=st.integers(0, 50))
    def lose(self, pick: int) -> None:
        if self.instances:
            name = sorted(self.instances)[pick % len(self.instances)]
            if self.instances[name].state not in deployment.GONE:
                self.instances[name] = replace(self.instances[name], state="written_off")
                self._changed(self.service)

    @rule()
    def give_up_a_start(self) -> None:
        if self.service.desired == "running":
            self._changed(deployment.start_failed(self.service, "it exits", self.now))

    @invariant()
    def what_is_shown_fits_what_is_there(self) -> None:
        ready = sum(1 for one in self.instances.values() if one.state == "ready")
        living = sum(1 for one in self.instances.values() if one.state not in deployment.GONE)
        if self.service.status == "running":
            assert ready >= self.service.replicas
        if self.service.status in ("stopped", "deleted"):
            assert living == 0


TestServiceLife = ServiceLife.TestCase
