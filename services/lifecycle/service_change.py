"""What one transaction does to one service: its instances change, events gather, and all of it is written at once.

Methods change the records in memory; `write` stores them with their outbox rows in the caller's transaction, which
must hold the platform's row (see storage.py). So nothing is half done, and sequences and versions have no gap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from adapters.database import outbox
from domain import billable_time, deployment
from domain.deployment import Service
from schemas.heartbeats import InstanceHeartbeat
from schemas.instances import BillableInterval, InstanceState
from services.lifecycle import events
from services.lifecycle.metrics import CLOCK_MOVED, INTERVALS, SECONDS, WRITTEN_OFF
from services.lifecycle.records import (
    InstanceRecord,
    IntervalRecord,
    ServiceRecord,
    instance_values,
    service_values,
    store_interval,
)
from services.lifecycle.tables import instances, services

logger = logging.getLogger(__name__)


class ServiceChange:
    """One service and the instances concerned: all living ones, and whichever a heartbeat has named."""

    def __init__(
        self, record: ServiceRecord, held: Iterable[InstanceRecord], *, now: datetime, new: bool = False
    ) -> None:
        self.now = now
        self.service: Service = record.service
        self.instances = {one.instance: one for one in held}
        self._record = record
        self._new = new
        self._before = dict(self.instances)
        self._messages: list[events.Message] = []
        self._intervals: list[tuple[str, IntervalRecord]] = []
        self._written_off: list[InstanceRecord] = []

    def place(self, instance: str, node: str) -> None:
        """A new instance on `node`."""
        record = InstanceRecord(
            instance=instance,
            service_id=self.service.service_id,
            node=node,
            created=self.now,
            placement_version=1,
        )
        self._changed(record, state="placed", epoch=0)
        self._messages.append(events.placement(self.service, self.instances[instance], at=self.now))

    def drain(self, instance: str, *, limit_s: float, reason: str) -> None:
        """No new request and no billing from now on; its running streams may take `limit_s` seconds more."""
        record = self.instances[instance]
        meter = billable_time.stop(record.meter, self.now)
        if record.epoch == 0:
            # No agent has reported it: nothing can be running that anybody waits for.
            self._gone(replace(record, meter=meter, reason=reason), "ended")
            return
        record = replace(
            record,
            meter=meter,
            wanted="draining",
            drain_until=self.now + timedelta(seconds=limit_s),
            reason=reason,
        )
        self._proven(record, state="draining")
        self._place_anew(instance)

    def end_drained(self, instance: str) -> None:
        """Its time to drain is over: tell its agent to end it."""
        self.instances[instance] = replace(self.instances[instance], wanted="ended")
        self._place_anew(instance)

    def give_up(self, instance: str, reason: str) -> None:
        """Its engine never becomes ready: end it, and let the service wait before the next try."""
        record = self.instances[instance]
        meter = billable_time.stop(record.meter, self.now)
        self._proven(
            replace(record, meter=meter, wanted="ended", drain_until=self.now, reason=reason), state="draining"
        )
        self._place_anew(instance)
        self.service = deployment.start_failed(self.service, reason, self.now)

    def lost(self, instance: str, reason: str) -> None:
        """Nothing has been heard of it for too long: written off, or, where it was to end anyway, ended."""
        record = replace(self.instances[instance], reason=reason)
        if record.state == "draining":
            self._gone(record, "ended")
            return
        self._written_off.append(record)
        self._gone(record, "written_off")

    def explain(self, reason: str | None) -> None:
        """The last word on why the service is not as it is wanted; None when there is nothing to say."""
        if self.service.failures == 0 and self.service.reason != reason:
            self.service = replace(self.service, reason=reason)

    def heard(self, heartbeat: InstanceHeartbeat, *, interval_s: int) -> None:
        """Take in a heartbeat: the engine's state, and what it proves of ready time."""
        record = self.instances[heartbeat.instance]
        if record.state == "written_off":
            return
        if heartbeat.node != record.node:
            logger.error(
                "heartbeat of another node than the instance's is ignored",
                extra={"instance": record.instance, "node": record.node, "sender": heartbeat.node},
            )
            return
        record = replace(record, meter=billable_time.heard(record.meter, heartbeat))
        state = record.state
        if (heartbeat.epoch, heartbeat.beat) > (record.epoch, record.beat) and not record.gone:
            state = deployment.instance_after(record.state, record.wanted, heartbeat.state)
            record = replace(
                record,
                epoch=heartbeat.epoch,
                beat=heartbeat.beat,
                engine=heartbeat.state,
                address=heartbeat.address,
                ready_epoch=heartbeat.epoch if heartbeat.state == "ready" or heartbeat.periods else record.ready_epoch,
                reason=_reason(record, heartbeat),
            )
        if state == "ended" and record.state != "ended":
            self._gone(record, "ended")
        elif state != record.state or billable_time.is_due(record.meter, interval_s):
            self._proven(record, state=state)
        else:
            self.instances[record.instance] = record
        if self.instances[record.instance].meter.settled != self._before[record.instance].meter.settled:
            self._place_anew(record.instance)

    def _gone(self, record: InstanceRecord, state: InstanceState) -> None:
        self._proven(replace(record, wanted="ended", ended_at=self.now), state=state)
        self._place_anew(record.instance)

    def _proven(self, record: InstanceRecord, *, state: InstanceState) -> None:
        """Write down all time proven so far, and the state, in as few events as carry both."""
        meter, proven = billable_time.prove(record.meter)
        record = replace(record, meter=meter)
        if not proven and state != record.state:
            self._changed(record, state=state, epoch=record.epoch)
            return
        self.instances[record.instance] = record
        for one in proven:
            self._changed(self.instances[record.instance], state=state, epoch=one.epoch, interval=one.interval)

    def _changed(
        self, record: InstanceRecord, *, state: InstanceState, epoch: int, interval: BillableInterval | None = None
    ) -> None:
        record = replace(record, state=state, sequence=record.sequence + 1)
        self.instances[record.instance] = record
        self._messages.append(
            events.instance_changed(self.service, record, at=self.now, epoch=epoch, interval=interval)
        )
        if interval is not None:
            written = IntervalRecord(epoch=epoch, sequence=record.sequence, interval=interval)
            self._intervals.append((record.instance, written))

    def _place_anew(self, instance: str) -> None:
        record = self.instances[instance]
        self.instances[instance] = replace(record, placement_version=record.placement_version + 1)
        self._messages.append(events.placement(self.service, self.instances[instance], at=self.now))

    def settle(self) -> ServiceRecord:
        """The service's record with the status and the DeploymentState that follow from what was done."""
        self.service = deployment.observed(self.service, (one.as_seen() for one in self.instances.values()))
        record = replace(self._record, service=self.service)
        if self.service.status == "deleted" and record.deleted_at is None:
            record = replace(record, deleted_at=self.now)
        state = events.deployment_state(self.service, self.instances.values(), version=record.version)
        if record.published is None or events.as_text(state) != record.published:
            state = events.deployment_state(self.service, self.instances.values(), version=record.version + 1)
            record = replace(record, version=state.version, published=events.as_text(state))
        return record

    @property
    def changes_anything(self) -> bool:
        """Whether `write` would write a row."""
        return self._new or self.settle() != self._record or self.instances != self._before

    async def write(self, session: AsyncSession) -> ServiceRecord:
        """Store what changed and put the events into the outbox."""
        record = self.settle()
        if self._new:
            await session.execute(services.insert().values(**service_values(record)))
        elif record != self._record:
            where = services.c.service_id == self.service.service_id
            await session.execute(services.update().where(where).values(**service_values(record)))
        for name, one in self.instances.items():
            if name not in self._before:
                await session.execute(instances.insert().values(**instance_values(one)))
            elif one != self._before[name]:
                await session.execute(
                    instances.update().where(instances.c.instance == name).values(**instance_values(one))
                )
        for name, interval in self._intervals:
            await store_interval(session, name, interval)
        if record.version != self._record.version and record.published is not None:
            self._messages.append(events.deployment(events.from_text(record.published), at=self.now))
        for topic, key, value in self._messages:
            await outbox.add(session, topic, key, value)
        self._tell()
        return record

    def _tell(self) -> None:
        """Count and log what was written. What a look only sketches is no event."""
        for record in self._written_off:
            WRITTEN_OFF.inc()
            extra = {"instance": record.instance, "node": record.node, "cause": record.reason}
            logger.warning("instance written off", extra=extra)
        for name, written in self._intervals:
            INTERVALS.inc()
            SECONDS.inc((written.interval.billable_until - written.interval.billable_from).total_seconds())
            if written.interval.start_moved:
                CLOCK_MOVED.inc()
                logger.error(
                    "a ready period was moved: its node's clock stood before the end of the last interval",
                    extra={"instance": name, "node": self.instances[name].node, "epoch": written.epoch},
                )


def _reason(record: InstanceRecord, heartbeat: InstanceHeartbeat) -> str | None:
    """Why an instance is as it is: its agent's word, unless it is ready, or is to end and we know why."""
    if heartbeat.state == "ready":
        return None if record.wanted == "running" else record.reason
    return heartbeat.detail if heartbeat.detail and record.wanted == "running" else record.reason
