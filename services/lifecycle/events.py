"""The three events that lifecycle publishes, built from its records. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from domain.deployment import Service
from domain.ids import access_path, instance_event_id
from schemas import codec
from schemas.deployments import DeploymentState, Endpoint
from schemas.instances import BillableInterval, InstanceChanged
from schemas.placements import PlacementState
from schemas.topics import DEPLOYMENTS, INSTANCES, PLACEMENTS, Topic
from services.lifecycle.records import InstanceRecord

SOURCE = "/hydra/lifecycle"

Message = tuple[Topic, str, bytes]
"""Topic, key, value."""


def instance_changed(
    service: Service, record: InstanceRecord, *, at: datetime, epoch: int, interval: BillableInterval | None
) -> Message:
    """`record` as it is after the change, its `sequence` already the event's."""
    changed = InstanceChanged(
        instance=record.instance,
        epoch=epoch,
        sequence=record.sequence,
        state=record.state,
        at=at,
        account=service.account,
        service_id=service.service_id,
        access_path=access_path(service.account, service.name),
        model=service.model,
        region=service.region,
        spec=service.spec,
        billing=service.billing,
        node=record.node,
        reason=record.reason,
        interval=interval,
    )
    event = codec.event(
        changed,
        id=instance_event_id(record.instance, epoch, record.sequence),
        source=SOURCE,
        subject=record.instance,
        time=at if interval is None else interval.billable_until,
    )
    return INSTANCES, record.instance, codec.encode(event)


def placement(service: Service, record: InstanceRecord, *, at: datetime) -> Message:
    """What the node's agent must do; acknowledges the periods that have become billable time."""
    epoch, period = record.meter.settled
    state = PlacementState(
        instance=record.instance,
        version=record.placement_version,
        node=record.node,
        service_id=service.service_id,
        access_path=access_path(service.account, service.name),
        model=service.model,
        spec=service.spec,
        wanted=record.wanted,
        drain_until=record.drain_until,
        acknowledged_epoch=epoch,
        acknowledged_period=period,
    )
    event = codec.event(
        state,
        id=f"{record.instance}/placement@{record.placement_version}",
        source=SOURCE,
        subject=record.instance,
        time=at,
    )
    return PLACEMENTS, record.instance, codec.encode(event)


def deployment_state(service: Service, records: Iterable[InstanceRecord], *, version: int) -> DeploymentState:
    """The service as the gateway must know it: only what is ready and is to stay takes requests."""
    endpoints = tuple(
        Endpoint(instance=record.instance, epoch=record.epoch, address=record.address)
        for record in sorted(records, key=lambda one: one.instance)
        if record.state == "ready" and record.wanted == "running" and record.address
    )
    return DeploymentState(
        service_id=service.service_id,
        version=version,
        account=service.account,
        access_path=access_path(service.account, service.name),
        model=service.model,
        region=service.region,
        # An instance of the operator's costs nobody anything; whoever calls it pays by token.
        billing="token" if service.billing == "operator" else service.billing,
        status=service.status,
        created=service.created,
        instances_wanted=service.instances_wanted,
        endpoints=endpoints,
        ever_ready=service.ever_ready,
    )


def deployment(state: DeploymentState, *, at: datetime) -> Message:
    """The event of a DeploymentState."""
    event = codec.event(
        state,
        id=f"{state.service_id}/deployment@{state.version}",
        source=SOURCE,
        subject=state.service_id,
        time=at,
    )
    return DEPLOYMENTS, state.service_id, codec.encode(event)


def as_text(state: DeploymentState) -> str:
    """A DeploymentState for the database; the same state gives the same text."""
    return msgspec.json.encode(state).decode()


def from_text(text: str) -> DeploymentState:
    """What `as_text` wrote."""
    return msgspec.json.decode(text, type=DeploymentState)
