"""Reads heartbeats from the offsets in the database, applies each batch in one transaction that also moves them.

There is no consumer group: the offsets are committed with what they led to, and every lifecycle reads all partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock_drift import BY_BROKER
from adapters.errors import Unavailable
from adapters.kafka.stopping import stop_consumer
from schemas.heartbeats import InstanceHeartbeat, NodeHeartbeat
from schemas.topics import HEARTBEATS
from services.lifecycle.heartbeat_text import ImpossibleHeartbeat, heartbeat_in
from services.lifecycle.liveness import Liveness
from services.lifecycle.metrics import BAD_HEARTBEATS, LAG
from services.lifecycle.metrics import HEARTBEATS as READ
from services.lifecycle.node_clocks import NodeClocks
from services.lifecycle.records import (
    InstanceRecord,
    ServiceRecord,
    instances_by_name,
    living_instances,
    load_service,
    store_nodes,
)
from services.lifecycle.service_change import ServiceChange
from services.lifecycle.storage import Storage
from services.lifecycle.tables import heartbeat_offsets

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
FIRST_PAUSE_S, PAUSE_MAX_S = 0.2, 5.0


class HeartbeatReader:
    """`reason` is empty while heartbeats are read and applied. `run` goes on until cancelled."""

    def __init__(
        self,
        bootstrap: str,
        storage: Storage,
        liveness: Liveness,
        node_clocks: NodeClocks,
        *,
        interval_s: int,
        records_max: int = 500,
        poll_ms: int = 200,
    ) -> None:
        self._bootstrap = bootstrap
        self._storage = storage
        self._liveness = liveness
        self._node_clocks = node_clocks
        self._interval_s = interval_s
        self._records_max = records_max
        self._poll_ms = poll_ms
        self._partitions = [TopicPartition(HEARTBEATS.name, number) for number in range(HEARTBEATS.partitions)]
        self._next: dict[int, int] = {}
        self._asked: tuple[float, dict[TopicPartition, int]] | None = None
        self._pause_s = FIRST_PAUSE_S
        self.reason = "heartbeats have not been read yet"

    async def run(self) -> None:
        """Read and apply until cancelled; what is down is waited for."""
        while True:
            try:
                await self._read_on()
            except (KafkaError, OSError, TimeoutError) as error:
                self.reason = f"Kafka does not answer: {type(error).__name__}"
            except Unavailable as error:
                self.reason = str(error)
            self._liveness.kafka_is_away()
            pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, PAUSE_MAX_S)
            logger.warning("heartbeats wait", extra={"cause": self.reason, "pause_s": pause_s})
            await asyncio.sleep(pause_s)

    async def _read_on(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            # A position that the log no longer holds is decided anew, and told, by `_seek`.
            auto_offset_reset="none",
            request_timeout_ms=10_000,
        )
        try:
            await consumer.start()
            await self._seek(consumer)
            self._asked = None
            looked_at = 0.0
            while True:
                batches = await consumer.getmany(timeout_ms=self._poll_ms, max_records=self._records_max)
                records = [record for batch in batches.values() for record in batch]
                if records:
                    await self._apply(records)
                now = self._storage.clock.monotonic()
                if self._asked is None and now - looked_at >= LOOK_EVERY_S:
                    looked_at = now
                    self._asked = now, await consumer.end_offsets(self._partitions)
                    self.reason = ""
                self._note_progress()
        finally:
            await stop_consumer(consumer)

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        async with self._storage.reading() as session:
            rows = await session.execute(sa.select(heartbeat_offsets))
            stored = {row.partition: row.next_offset for row in rows}
        begins = await consumer.beginning_offsets(self._partitions)
        ends = await consumer.end_offsets(self._partitions)
        for partition in self._partitions:
            offset = stored.get(partition.partition, 0)
            if not begins[partition] <= offset <= ends[partition]:
                # Periods tell their whole length each time, so heartbeats that expired unread are made good by the
                # next; a topic made anew starts again.
                if partition.partition in stored:
                    logger.error(
                        "heartbeats are read from the log's beginning",
                        extra={"partition": partition.partition, "stored": offset, "begins": begins[partition]},
                    )
                    async with self._storage.deciding() as session:
                        await session.execute(
                            heartbeat_offsets.delete().where(heartbeat_offsets.c.partition == partition.partition)
                        )
                offset = begins[partition]
            self._next[partition.partition] = offset
        consumer.assign(self._partitions)
        for partition in self._partitions:
            consumer.seek(partition, self._next[partition.partition])

    def _note_progress(self) -> None:
        """Once all is applied that Kafka had when it was last asked, silence until then is proven."""
        if self._asked is None:
            return
        asked_at, ends = self._asked
        lag = sum(max(0, end - self._next[partition.partition]) for partition, end in ends.items())
        LAG.set(lag)
        if lag == 0:
            self._liveness.read_to_the_end(asked_at)
            self._asked = None
            self._pause_s = FIRST_PAUSE_S  # this outage is over; the next one begins anew

    async def _apply(self, records: Sequence[ConsumerRecord]) -> None:
        of_instances: dict[str, list[InstanceHeartbeat]] = {}
        of_nodes: list[NodeHeartbeat] = []
        for record in records:
            heartbeat = decoded(record)
            if isinstance(heartbeat, InstanceHeartbeat):
                of_instances.setdefault(heartbeat.instance, []).append(heartbeat)
            elif heartbeat is not None:
                of_nodes.append(heartbeat)
                if record.timestamp_type == BY_BROKER:
                    self._node_clocks.heard(heartbeat.node, heartbeat.sent, record.timestamp)
        after = {record.partition: record.offset + 1 for record in records}
        async with self._storage.deciding() as session:
            await apply_heartbeats(session, self._storage, of_instances, interval_s=self._interval_s)
            if of_nodes:
                await store_nodes(session, of_nodes)
            await _move_offsets(session, after)
        self._next.update(after)
        for name in [*of_instances, *(one.node for one in of_nodes)]:
            self._liveness.heard(name)


def decoded(record: ConsumerRecord) -> InstanceHeartbeat | NodeHeartbeat | None:
    """The heartbeat in a record; None, counted and logged, for what is none: the next one makes it good."""
    try:
        heartbeat = heartbeat_in(record.value or b"")
    except (msgspec.DecodeError, RecursionError, ImpossibleHeartbeat) as error:
        BAD_HEARTBEATS.inc()
        cause = str(error) if isinstance(error, ImpossibleHeartbeat) else type(error).__name__
        logger.error("not a heartbeat", extra={"partition": record.partition, "offset": record.offset, "cause": cause})
        return None
    READ.labels("node" if isinstance(heartbeat, NodeHeartbeat) else "instance").inc()
    return heartbeat


async def apply_heartbeats(
    session: AsyncSession, storage: Storage, heard: dict[str, list[InstanceHeartbeat]], *, interval_s: int
) -> None:
    """Take in the heartbeats of each instance, in the order given. Of an instance unknown here nothing follows."""
    by_service: dict[str, list[InstanceRecord]] = {}
    for record in await instances_by_name(session, list(heard)):
        by_service.setdefault(record.service_id, []).append(record)
    for service_id, named in sorted(by_service.items()):
        service = await load_service(session, service_id)
        assert service is not None, "an instance's service is never removed"
        change = await _change(session, storage, service, named)
        for one in named:
            for heartbeat in heard[one.instance]:
                change.heard(heartbeat, interval_s=interval_s)
        if change.changes_anything:
            await change.write(session)


async def _change(
    session: AsyncSession, storage: Storage, service: ServiceRecord, named: list[InstanceRecord]
) -> ServiceChange:
    held = {one.instance: one for one in [*named, *await living_instances(session, service.service.service_id)]}
    return ServiceChange(service, held.values(), now=storage.clock.now())


async def _move_offsets(session: AsyncSession, after: dict[int, int]) -> None:
    for partition, offset in sorted(after.items()):
        where = heartbeat_offsets.c.partition == partition
        known = (await session.execute(sa.select(heartbeat_offsets.c.next_offset).where(where))).scalar_one_or_none()
        if known is None:
            await session.execute(heartbeat_offsets.insert().values(partition=partition, next_offset=offset))
        elif known < offset:
            await session.execute(heartbeat_offsets.update().where(where).values(next_offset=offset))
