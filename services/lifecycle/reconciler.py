"""Drives what runs toward what is wanted: one look a second, one transaction for each service that needs something.

A look judges a snapshot without writing; what seems needed is judged again, on fresh rows, inside the transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import get_args

from sqlalchemy.ext.asyncio import AsyncSession

from adapters.errors import Unavailable
from domain import deployment, ids
from domain.catalogue import Catalogue
from domain.placement import Node, Occupied, choose_node, why_no_room
from schemas.deployments import ServiceStatus
from schemas.heartbeats import NodeHeartbeat
from schemas.instances import InstanceState
from services.lifecycle.liveness import Liveness
from services.lifecycle.metrics import DECISIONS, INSTANCES, LONGEST_SILENCE, REPLICAS_WANTED, SERVICES
from services.lifecycle.records import (
    InstanceRecord,
    ServiceRecord,
    by_service,
    forget_nodes,
    idle_nodes,
    instances_by_name,
    living_instances,
    living_services,
    load_nodes,
    load_service,
    specs_of_services,
)
from services.lifecycle.service_change import ServiceChange
from services.lifecycle.settings import Bounds
from services.lifecycle.storage import Storage

logger = logging.getLogger(__name__)

AccountClosed = Callable[[str], bool]
"""Whether an account is known to be closed, which is for ever."""


def nobody(account: str) -> bool:
    """No account is closed: where accounts are not followed."""
    return False


@dataclass(frozen=True)
class World:
    """What is there: living instances of all services, and nodes heard of lately."""

    nodes: tuple[NodeHeartbeat, ...]
    occupied: tuple[Occupied, ...]

    def candidates(self) -> tuple[Node, ...]:
        """The nodes as placement sees them."""
        return tuple(
            Node(node=one.node, region=one.region, gpu=one.gpu, gpus=one.gpus, memory_gb=one.memory_gb)
            for one in self.nodes
        )


class Reconciler:
    """`run` goes on until cancelled. `reason` is empty unless the database does not answer."""

    def __init__(
        self,
        storage: Storage,
        liveness: Liveness,
        catalogue: Catalogue,
        bounds: Bounds,
        *,
        account_closed: AccountClosed = nobody,
        every_s: float = 1.0,
    ) -> None:
        self._storage = storage
        self._liveness = liveness
        self._catalogue = catalogue
        self._bounds = bounds
        self._account_closed = account_closed
        self._every_s = every_s
        self._woken = asyncio.Event()
        self.reason = ""

    def wake(self) -> None:
        """Look now: something was decided elsewhere."""
        self._woken.set()

    async def run(self) -> None:
        """Look and act until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.look()
                self.reason = ""
            except Unavailable as error:
                self.reason = str(error)
                logger.warning("reconciling waits", extra={"cause": self.reason})
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._woken.wait()

    async def look(self) -> int:
        """One look at everything; how many services were changed."""
        async with self._storage.reading() as session:
            services = await living_services(session)
            living = await living_instances(session)
            world = await self._world(session)
            silent = await self._long_silent(session)
        if silent:
            await self._forget_nodes()
        self._liveness.forget({one.instance for one in living} | {one.node for one in world.nodes})
        for one in living:
            self._liveness.expect(one.instance)
        _show(services, living)
        LONGEST_SILENCE.set(max((self._liveness.silent_for_s(one.instance) for one in living), default=0.0))
        changed = 0
        held = by_service(living)
        for record in services:
            sketch = ServiceChange(record, held[record.service.service_id], now=self._storage.clock.now())
            self._reconcile(sketch, world)
            if sketch.changes_anything:
                changed += await self._act(record.service.service_id)
        return changed

    async def _long_silent(self, session: AsyncSession) -> list[str]:
        """Nodes that nothing runs on and that need not be remembered: read as silent, and so by their last word too."""
        if not self._liveness.certain:
            return []
        since = self._storage.clock.now() - timedelta(seconds=self._bounds.node_forgotten_after_s)
        idle = await idle_nodes(session, sent_before=since)
        return [one for one in idle if not self._liveness.was_heard_within(one, self._bounds.node_silent_after_s)]

    async def _forget_nodes(self) -> None:
        async with self._storage.deciding() as session:
            names = await self._long_silent(session)
            if not names:
                return
            await forget_nodes(session, names)
        logger.info("silent nodes are forgotten", extra={"nodes": names})

    async def _act(self, service_id: str) -> bool:
        async with self._storage.deciding() as session:
            record = await load_service(session, service_id)
            if record is None:
                return False
            change = await self._storage.change(session, record)
            self._reconcile(change, await self._world(session))
            if not change.changes_anything:
                return False
            await change.write(session)
        DECISIONS.inc()
        return True

    async def _world(self, session: AsyncSession) -> World:
        nodes = await load_nodes(session)
        listed = {name: one.node for one in nodes for name in one.instances}
        held: dict[str, InstanceRecord] = {one.instance: one for one in await living_instances(session)}
        # What is gone for us may still run on its node until its agent has read so.
        lingering = await instances_by_name(session, [name for name in listed if name not in held])
        holding = [*held.values(), *(one for one in lingering if listed[one.instance] == one.node)]
        specs = await specs_of_services(session, {one.service_id for one in holding})
        occupied = tuple(
            Occupied(node=one.node, service_id=one.service_id, gpus=self._gpus(specs[one.service_id]))
            for one in holding
        )
        alive = tuple(
            one for one in nodes if self._liveness.was_heard_within(one.node, self._bounds.node_silent_after_s)
        )
        return World(nodes=alive, occupied=occupied)

    def _gpus(self, spec: str) -> int:
        known = self._catalogue.specs.get(spec)
        return 1 if known is None else known.gpus

    def _reconcile(self, change: ServiceChange, world: World) -> None:
        why_drained = "scaled down"
        if change.service.desired == "running" and self._account_closed(change.service.account):
            # Nobody can stop it any more: a closed account's keys are refused.
            why_drained = "the account is closed"
            change.service = replace(deployment.stop(change.service), reason=why_drained)
        for record in list(change.instances.values()):
            if not record.gone:
                self._tend(change, record)
        seen = [one.as_seen() for one in change.instances.values()]
        decision = deployment.decide(change.service, seen, change.now)
        for name in decision.drain:
            change.drain(name, limit_s=self._bounds.drain_limit_s, reason=why_drained)
        if decision.place:
            self._place(change, world, decision.place)

    def _tend(self, change: ServiceChange, record: InstanceRecord) -> None:
        """One instance: lost, failing to start, or drained for long enough."""
        name, bounds = record.instance, self._bounds
        silent_s = self._liveness.silent_for_s(name)
        if silent_s > bounds.write_off_after_s:
            change.lost(name, f"nothing was heard of it for {bounds.write_off_after_s:.0f} s")
            return
        if record.wanted == "draining" and record.drain_until is not None and record.drain_until <= change.now:
            change.end_drained(name)
            return
        if record.wanted != "running" or record.engine is None:
            return
        failed = deployment.failed_starts(epoch=record.epoch, ready_epoch=record.ready_epoch, engine=record.engine)
        if failed >= deployment.FAILED_STARTS_MAX:
            why = f": {record.reason}" if record.reason else ""
            change.give_up(name, f"its engine failed to start {failed} times{why}")
        elif record.state == "starting" and record.created <= change.now - timedelta(seconds=bounds.start_limit_s):
            change.give_up(name, f"its engine was not ready {bounds.start_limit_s:.0f} s after it was placed")

    def _place(self, change: ServiceChange, world: World, count: int) -> None:
        service = change.service
        spec = self._catalogue.specs.get(service.spec)
        if spec is None:
            change.explain(f"spec {service.spec} is no longer in the catalogue")
            return
        held = list(world.occupied)
        for _ in range(count):
            node = choose_node(
                world.candidates(), held, service_id=service.service_id, region=service.region, spec=spec
            )
            if node is None:
                change.explain(why_no_room(world.candidates(), region=service.region, spec=spec))
                return
            change.place(ids.instance_id(secrets.token_bytes(ids.ENTROPY_BYTES)), node)
            held.append(Occupied(node=node, service_id=service.service_id, gpus=spec.gpus))
        change.explain(None)


def _show(services: Iterable[ServiceRecord], living: Iterable[InstanceRecord]) -> None:
    by_status = Counter(record.service.status for record in services)
    for status in get_args(ServiceStatus):
        SERVICES.labels(status).set(by_status[status])
    REPLICAS_WANTED.set(sum(record.service.instances_wanted for record in services))
    by_state = Counter(one.state for one in living)
    for state in set(get_args(InstanceState)) - deployment.GONE:
        INSTANCES.labels(state).set(by_state[state])
