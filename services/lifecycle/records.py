"""Services, instances and nodes between their rows and what the domain reasons about. No decision is taken here."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from domain.billable_time import Meter
from domain.deployment import GONE, Instance, Service
from schemas.heartbeats import EngineState, NodeHeartbeat
from schemas.instances import BillableInterval, InstanceState
from schemas.placements import PlacementWanted
from services.lifecycle.tables import instances, intervals, nodes, services

NAMES_A_STATEMENT = 10_000
"""PostgreSQL takes 32,767 parameters, and nodes list as many instances as they like."""
_SERVICE_FIELDS = tuple(field.name for field in dataclasses.fields(Service))
_meter = msgspec.json.Decoder(Meter)


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """A service with what is only bookkeeping: `published` is its last DeploymentState in JSON, `version` included."""

    service: Service
    version: int = 0
    published: str | None = None
    deleted_at: datetime | None = None
    tombstoned: bool = False


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """An instance. `epoch` and `beat` name the newest heartbeat heard, `engine` and `address` what it said."""

    instance: str
    service_id: str
    node: str
    created: datetime
    state: InstanceState = "placed"
    wanted: PlacementWanted = "running"
    epoch: int = 0
    beat: int = 0
    ready_epoch: int = 0
    engine: EngineState | None = None
    address: str | None = None
    reason: str | None = None
    sequence: int = 0
    placement_version: int = 0
    drain_until: datetime | None = None
    ended_at: datetime | None = None
    tombstoned: bool = False
    meter: Meter = field(default_factory=Meter)

    @property
    def gone(self) -> bool:
        """Whether its engine is gone or given up for lost."""
        return self.state in GONE

    def as_seen(self) -> Instance:
        """What the decisions of domain/deployment.py need of it."""
        return Instance(instance=self.instance, state=self.state, wanted=self.wanted, created=self.created)


@dataclass(frozen=True, kw_only=True)
class IntervalRecord:
    """An interval to be written, and the sequence of the event that carries it."""

    epoch: int
    sequence: int
    interval: BillableInterval


def _service(row: sa.Row[Any]) -> ServiceRecord:
    return ServiceRecord(
        service=Service(**{name: getattr(row, name) for name in _SERVICE_FIELDS}),
        version=row.version,
        published=row.published,
        deleted_at=row.deleted_at,
        tombstoned=row.tombstoned,
    )


def service_values(record: ServiceRecord) -> dict[str, Any]:
    """The row of a service."""
    values = {name: getattr(record.service, name) for name in _SERVICE_FIELDS}
    return values | {name: getattr(record, name) for name in ("version", "published", "deleted_at", "tombstoned")}


def _instance(row: sa.Row[Any]) -> InstanceRecord:
    values = dict(row._mapping)
    return InstanceRecord(**(values | {"meter": _meter.decode(values["meter"])}))


def instance_values(record: InstanceRecord) -> dict[str, Any]:
    """The row of an instance."""
    values = {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record)}
    return values | {"meter": msgspec.json.encode(record.meter).decode()}


async def load_service(session: AsyncSession, service_id: str) -> ServiceRecord | None:
    row = (await session.execute(sa.select(services).where(services.c.service_id == service_id))).one_or_none()
    return None if row is None else _service(row)


async def find_service(session: AsyncSession, account: str, name: str) -> ServiceRecord | None:
    """The service that has this name now; a deleted one has none."""
    where = (services.c.account == account) & (services.c.name == name) & (services.c.status != "deleted")
    row = (await session.execute(sa.select(services).where(where))).one_or_none()
    return None if row is None else _service(row)


async def living_services(session: AsyncSession, account: str | None = None) -> list[ServiceRecord]:
    """All services that are not deleted, of one account or of all, by account and name."""
    query = sa.select(services).where(services.c.status != "deleted").order_by(services.c.account, services.c.name)
    if account is not None:
        query = query.where(services.c.account == account)
    return [_service(row) for row in await session.execute(query)]


async def instances_by_name(session: AsyncSession, names: Collection[str]) -> list[InstanceRecord]:
    """Those that are known of these names, each once, in no order."""
    distinct = list(dict.fromkeys(names))
    found: list[InstanceRecord] = []
    for first in range(0, len(distinct), NAMES_A_STATEMENT):
        part = distinct[first : first + NAMES_A_STATEMENT]
        query = sa.select(instances).where(instances.c.instance.in_(part))
        found += [_instance(row) for row in await session.execute(query)]
    return found


async def page_of_services(
    session: AsyncSession, account: str | None, *, after: str | None, limit: int
) -> list[ServiceRecord]:
    """Living services by account and name, those behind `after` (`<account>/<name>`)."""
    query = sa.select(services).where(services.c.status != "deleted").order_by(services.c.account, services.c.name)
    if account is not None:
        query = query.where(services.c.account == account)
    if after is not None:
        of, _, name = after.partition("/")
        query = query.where(sa.or_(services.c.account > of, (services.c.account == of) & (services.c.name > name)))
    return [_service(row) for row in await session.execute(query.limit(limit))]


async def instances_of(
    session: AsyncSession, service_id: str, *, after: str | None, limit: int
) -> list[InstanceRecord]:
    """Every instance that a service ever had, oldest first, those behind the instance `after`."""
    query = sa.select(instances).where(instances.c.service_id == service_id)
    if after is not None:
        mark = sa.select(instances.c.created).where(instances.c.instance == after).scalar_subquery()
        query = query.where(
            sa.or_(instances.c.created > mark, (instances.c.created == mark) & (instances.c.instance > after))
        )
    query = query.order_by(instances.c.created, instances.c.instance).limit(limit)
    return [_instance(row) for row in await session.execute(query)]


async def living_instances(session: AsyncSession, *service_ids: str) -> list[InstanceRecord]:
    """The instances that are not gone of these services, or of all where none is named; oldest first."""
    query = sa.select(instances).where(instances.c.state.not_in(GONE))
    if service_ids:
        query = query.where(instances.c.service_id.in_(service_ids))
    return [_instance(row) for row in await session.execute(query.order_by(instances.c.created, instances.c.instance))]


def by_service(found: Iterable[InstanceRecord]) -> Mapping[str, list[InstanceRecord]]:
    """Instances by their service, in the order given; a service without any has an empty list."""
    grouped: defaultdict[str, list[InstanceRecord]] = defaultdict(list)
    for one in found:
        grouped[one.service_id].append(one)
    return grouped


async def specs_of_services(session: AsyncSession, service_ids: Collection[str]) -> dict[str, str]:
    """The specs of these services, deleted ones included."""
    query = sa.select(services.c.service_id, services.c.spec).where(services.c.service_id.in_(service_ids))
    return {row.service_id: row.spec for row in await session.execute(query)}


async def store_interval(session: AsyncSession, instance: str, record: IntervalRecord) -> None:
    """Append to the instance's chain; an overlap or a second event of one sequence raises IntegrityError."""
    last = (
        await session.execute(
            sa.select(intervals.c.number, intervals.c.billable_until)
            .where(intervals.c.instance == instance)
            .order_by(intervals.c.number.desc())
            .limit(1)
        )
    ).one_or_none()
    await session.execute(
        intervals.insert().values(
            instance=instance,
            number=1 if last is None else last.number + 1,
            epoch=record.epoch,
            period=record.interval.period,
            sequence=record.sequence,
            billable_from=record.interval.billable_from,
            billable_until=record.interval.billable_until,
            previous_number=None if last is None else last.number,
            previous_until=None if last is None else last.billable_until,
        )
    )


async def load_nodes(session: AsyncSession) -> list[NodeHeartbeat]:
    """The newest heartbeat of every node that is not forgotten."""
    return [
        NodeHeartbeat(**(dict(row._mapping) | {"instances": tuple(msgspec.json.decode(row.instances))}))
        for row in await session.execute(sa.select(nodes))
    ]


async def store_nodes(session: AsyncSession, heartbeats: Sequence[NodeHeartbeat]) -> None:
    """Keep the newest heartbeat of each node, by (start, beat); older ones change nothing."""
    newest: dict[str, NodeHeartbeat] = {}
    for one in sorted(heartbeats, key=lambda one: (one.start, one.beat)):
        newest[one.node] = one
    known = {one.node: one for one in await load_nodes(session)}
    for name, one in sorted(newest.items()):
        values = msgspec.structs.asdict(one) | {"instances": msgspec.json.encode(one.instances).decode()}
        before = known.get(name)
        if before is None:
            await session.execute(nodes.insert().values(**values))
        elif (before.start, before.beat) < (one.start, one.beat):
            await session.execute(nodes.update().where(nodes.c.node == name).values(**values))


async def idle_nodes(session: AsyncSession, *, sent_before: datetime) -> list[str]:
    """Nodes without a living instance whose newest heartbeat, by their own clock, is from before `sent_before`."""
    holds = sa.exists().where(instances.c.node == nodes.c.node, instances.c.state.not_in(GONE))
    query = sa.select(nodes.c.node).where(nodes.c.sent < sent_before, ~holds)
    return list((await session.execute(query)).scalars())


async def forget_nodes(session: AsyncSession, names: Collection[str]) -> None:
    """Drop these nodes; a later heartbeat of one makes it known again."""
    await session.execute(nodes.delete().where(nodes.c.node.in_(names)))
