"""The state machines of services and instances: which command is accepted when, what is wanted, and what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from schemas.deployments import ServiceStatus
from schemas.heartbeats import EngineState
from schemas.instances import InstanceState
from schemas.placements import PlacementWanted
from schemas.usage import BillingMode

Desired = Literal["running", "stopped", "deleted"]

STATUS_AFTER: dict[ServiceStatus, frozenset[ServiceStatus]] = {
    "deploying": frozenset({"running", "degraded", "failed", "stopping", "stopped", "deleting", "deleted"}),
    "running": frozenset({"degraded", "failed", "stopping", "stopped", "deleting", "deleted"}),
    "degraded": frozenset({"running", "failed", "stopping", "stopped", "deleting", "deleted"}),
    "failed": frozenset({"deploying", "running", "degraded", "stopping", "stopped", "deleting", "deleted"}),
    "stopping": frozenset({"stopped", "deploying", "running", "degraded", "deleting", "deleted"}),
    "stopped": frozenset({"deploying", "deleting", "deleted"}),
    "deleting": frozenset({"deleted"}),
    "deleted": frozenset(),
}
"""Every change of a service's status that can happen."""

INSTANCE_STATE_AFTER: dict[InstanceState, frozenset[InstanceState]] = {
    "placed": frozenset({"starting", "ready", "draining", "ended", "written_off"}),
    "starting": frozenset({"ready", "draining", "ended", "written_off"}),
    "ready": frozenset({"not_ready", "draining", "ended", "written_off"}),
    "not_ready": frozenset({"ready", "draining", "ended", "written_off"}),
    "draining": frozenset({"ended"}),
    "ended": frozenset(),
    "written_off": frozenset(),
}
"""Every change of an instance's state that can happen."""

GONE: frozenset[InstanceState] = frozenset({"ended", "written_off"})
FAILED_STARTS_MAX = 3
"""So many engine starts in a row without ever being ready end an instance; its replacement waits."""
FAILURES_UNTIL_FAILED = 2
"""So many instances ended for that reason in a row make a service without a ready instance `failed`."""
BACKOFF_FIRST_S = 10
BACKOFF_MAX_S = 300


class Refused(ValueError):
    """A command that is not accepted: `code` for programs, one sentence on what, where (`field`) and what helps."""

    def __init__(self, code: str, message: str, what_to_do: str, *, field: str | None = None) -> None:
        super().__init__(f"{message} {what_to_do}")
        self.code = code
        self.message = message
        self.what_to_do = what_to_do
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service as it is wanted and as it was last seen. `retry_at` holds back the next placement."""

    service_id: str
    account: str
    name: str
    model: str
    region: str
    spec: str
    billing: BillingMode
    created: datetime
    replicas: int
    desired: Desired = "running"
    status: ServiceStatus = "deploying"
    ever_ready: bool = False
    failures: int = 0
    retry_at: datetime | None = None
    reason: str | None = None

    @property
    def instances_wanted(self) -> int:
        """How many instances should run now; `replicas` is kept for the next start."""
        return self.replicas if self.desired == "running" else 0


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What the decisions below need of an instance."""

    instance: str
    state: InstanceState
    wanted: PlacementWanted
    created: datetime


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What brings a service nearer to what is wanted: how many to place, and which to drain."""

    place: int = 0
    drain: tuple[str, ...] = ()


_REPLICAS = re.compile(r"(\+?)([0-9]{1,6})")


def replicas_after(asked: str, now: int, *, most: int) -> int:
    """`3` sets the number, `+2` adds to it. Raises Refused outside 1 to `most` or for anything else."""
    match = _REPLICAS.fullmatch(asked.strip())
    if match is None:
        raise Refused(
            "invalid_replicas",
            f"{asked.strip()[:20]!r} is no number of replicas.",
            "Give a number to set, as 3, or one to add, as +2.",
            field="replicas",
        )
    replicas = int(match[2]) + (now if match[1] else 0)
    if replicas < 1:
        raise Refused(
            "invalid_replicas",
            "A service has at least 1 replica.",
            "To have none running, stop the service.",
            field="replicas",
        )
    if replicas > most:
        raise Refused(
            "invalid_replicas",
            f"{replicas} replicas are more than the {most} that a service may have.",
            "Ask for fewer, or deploy another service.",
            field="replicas",
        )
    return replicas


def scale(service: Service, asked: str, *, most: int) -> Service:
    """Set or raise the number of replicas of a running service."""
    _refuse_deleted(service)
    if service.desired == "stopped":
        raise Refused("service_stopped", f"The service {service.name} is stopped.", "Start it, then scale it.")
    return _tried_anew(service, replicas=replicas_after(asked, service.replicas, most=most))


def stop(service: Service) -> Service:
    """Want no instance; repeating it changes nothing."""
    _refuse_deleted(service)
    return replace(service, desired="stopped", retry_at=None, reason=None, failures=0)


def start(service: Service) -> Service:
    """Want the replicas again; on a running service it changes nothing but ends a back-off."""
    _refuse_deleted(service)
    if service.desired == "stopped":
        service = replace(service, ever_ready=False)
    return _tried_anew(replace(service, desired="running"))


def delete(service: Service, confirm: str | None) -> Service:
    """Want it gone for ever. `confirm` must be its name, letter for letter."""
    if confirm != service.name:
        raise Refused(
            "confirmation_mismatch",
            "Deleting is final, and `confirm` does not repeat the service's name.",
            f"Send confirm={service.name} to delete it.",
            field="confirm",
        )
    return replace(service, desired="deleted", retry_at=None, reason=None, failures=0)


def _refuse_deleted(service: Service) -> None:
    if service.desired == "deleted":
        raise Refused(
            "service_deleting", f"The service {service.name} is being deleted.", "Deploy a new service instead."
        )


def _tried_anew(service: Service, *, replicas: int | None = None) -> Service:
    return replace(
        service,
        replicas=service.replicas if replicas is None else replicas,
        failures=0,
        retry_at=None,
        reason=None,
    )


def observed(service: Service, instances: Iterable[Instance]) -> Service:
    """The service with the status that follows from what is wanted and what is there."""
    living = [instance for instance in instances if instance.state not in GONE]
    ready = sum(1 for instance in living if instance.state == "ready")
    service = replace(service, ever_ready=service.ever_ready or ready > 0)
    if ready >= service.instances_wanted > 0:
        service = replace(service, failures=0, retry_at=None, reason=None)
    return replace(service, status=_status(service, ready=ready, living=len(living)))


def _status(service: Service, *, ready: int, living: int) -> ServiceStatus:
    if service.desired == "deleted":
        return "deleting" if living else "deleted"
    if service.desired == "stopped":
        return "stopping" if living else "stopped"
    if ready >= service.replicas:
        return "running"
    if ready > 0:
        return "degraded"
    if service.failures >= FAILURES_UNTIL_FAILED:
        return "failed"
    return "degraded" if service.ever_ready else "deploying"


def decide(service: Service, instances: Iterable[Instance], now: datetime) -> Decision:
    """Place what is missing unless a back-off holds; drain what is too much.

    First goes what is not ready, then the youngest.
    """
    kept = [instance for instance in instances if instance.state not in GONE and instance.wanted == "running"]
    surplus = len(kept) - service.instances_wanted
    if surplus > 0:
        first_out = sorted(kept, key=lambda one: (one.state != "ready", one.created, one.instance), reverse=True)
        return Decision(drain=tuple(instance.instance for instance in first_out[:surplus]))
    if surplus < 0 and (service.retry_at is None or service.retry_at <= now):
        return Decision(place=-surplus)
    return Decision()


def start_failed(service: Service, reason: str, now: datetime) -> Service:
    """An instance was given up because its engine never became ready: wait longer each time, and say why."""
    failures = service.failures + 1
    wait_s = min(BACKOFF_FIRST_S * 2 ** (failures - 1), BACKOFF_MAX_S)
    return replace(service, failures=failures, retry_at=now + timedelta(seconds=wait_s), reason=reason)


def failed_starts(*, epoch: int, ready_epoch: int, engine: EngineState) -> int:
    """Engine starts in a row that ended without being ready; `ready_epoch` is the last epoch that ever was (or 0)."""
    return max(0, epoch - ready_epoch - (0 if engine == "failed" else 1))


def instance_after(state: InstanceState, wanted: PlacementWanted, engine: EngineState) -> InstanceState:
    """An instance's state once its agent reports `engine`. What is gone stays gone, what drains only ends.

    An agent restarts an engine that failed or ended by itself, so that this alone ends no instance.
    """
    if state in GONE:
        return state
    if wanted != "running":
        return "ended" if engine in ("ended", "failed") else "draining"
    if engine == "ready":
        return "ready"
    return "not_ready" if state in ("ready", "not_ready") else "starting"
