"""The shell of every money-path consumer: read a batch, compute, write, then commit. It never skips.

An offset is committed only after `process` has returned, so whatever dies, the batch comes again; ids are derived,
so that a batch that comes again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.stopping import stop_consumer
from schemas.topics import Topic

logger = logging.getLogger(__name__)

Process = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
AlreadyWritten = Callable[[str, int], Awaitable[bool]]
"""Tells whether this processor has written anything that came from (topic, partition)."""


class BatchConsumer:
    """Reads `topics` as `group` and hands batches of at most `records_max` to `process`, one at a time.

    `process` raises Unavailable to have the same records again after a pause (1 s doubling to 10 s); anything else
    ends `run`. StopOnPurpose is raised where going on could skip or double: a partition without a committed offset
    whose log starts above 0 or from which `already_written` says that something was written; a committed offset
    that the log no longer holds.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[Topic],
        process: Process,
        already_written: AlreadyWritten,
        *,
        records_max: int = 5_000,
        poll_ms: int = 200,
        session_timeout_ms: int = 15_000,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = [topic.name for topic in topics]
        self._process = process
        self._already_written = already_written
        self._records_max = records_max
        self._poll_ms = poll_ms
        self._session_timeout_ms = session_timeout_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._stop_reason: StopOnPurpose | None = None
        self.reason = "Kafka has not answered yet"
        self.committed: dict[tuple[str, int], int] = {}

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned and the last batch went through; `reason` tells why not."""
        return not self.reason

    async def run(self) -> None:
        """Process until cancelled. Raises StopOnPurpose, or whatever `process` raises but Unavailable."""
        pause_s = 1.0
        while True:
            try:
                await self._run_connected()
            except (Unavailable, KafkaError, OSError) as error:
                if self.ready:
                    pause_s = 1.0
                self.reason = str(error) if isinstance(error, Unavailable) else f"Kafka: {type(error).__name__}"
                logger.warning("consumer starts again", extra={"group": self._group, "cause": self.reason})
            finally:
                consumer, self._consumer = self._consumer, None
                if consumer is not None:
                    await stop_consumer(consumer)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 10.0)

    async def lag(self) -> int:
        """Messages not yet committed, over the partitions assigned here. Raises Unavailable."""
        return sum(end - committed for committed, end in (await self.progress()).values())

    async def progress(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The committed offset and the log's end of each (topic, partition) assigned here. Raises Unavailable.

        Committed is read before the end, so that equal ones mean: nothing was left when this was called.
        """
        consumer = self._consumer
        if consumer is None:
            raise Unavailable(self.reason)
        committed = dict(self.committed)
        partitions = consumer.assignment()
        if not partitions:
            return {}  # also while it is connecting, when it cannot be asked for offsets yet
        try:
            ends = await consumer.end_offsets(partitions)
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {type(error).__name__}") from error
        return {
            (tp.topic, tp.partition): (committed[tp.topic, tp.partition], end)
            for tp, end in ends.items()
            if (tp.topic, tp.partition) in committed
        }

    async def _run_connected(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 5,
            max_poll_interval_ms=300_000,
            max_partition_fetch_bytes=4_194_304,
        )
        self._consumer = consumer
        consumer.subscribe(self._topics, listener=_Assigned(self, consumer))
        await consumer.start()
        pause_s = 1.0
        while True:
            batches = await self._fetched(consumer)
            if self._stop_reason is not None:
                raise self._stop_reason
            if consumer.assignment():
                self.reason = ""
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            try:
                await self._process(records)
            except Unavailable as error:
                self.reason = str(error)
                logger.warning("batch waits", extra={"group": self._group, "cause": self.reason, "pause_s": pause_s})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 10.0)
                self._rewind(consumer, batches)
                continue
            pause_s = 1.0
            await self._commit(consumer, batches)

    async def _fetched(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            batches: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
                timeout_ms=self._poll_ms, max_records=self._records_max
            )
        except NoOffsetForPartitionError:
            # The fetcher was faster than the listener, which decides where such a partition starts, or stops.
            await asyncio.sleep(0.02)
            return {}
        except OffsetOutOfRangeError as error:
            await self.check_assigned(consumer, consumer.assignment())
            raise StopOnPurpose(f"{self._group}: the log no longer holds the next offset to read") from error
        return batches

    @staticmethod
    def _rewind(consumer: AIOKafkaConsumer, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        assigned = consumer.assignment()
        for partition, batch in batches.items():
            if partition in assigned:
                consumer.seek(partition, batch[0].offset)

    async def _commit(self, consumer: AIOKafkaConsumer, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        assigned = consumer.assignment()
        offsets = {tp: batch[-1].offset + 1 for tp, batch in batches.items() if tp in assigned}
        try:
            if offsets:
                await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # Partitions moved while we wrote: their new owner reads the batch again, ids make it one.
            logger.warning("commit refused", extra={"group": self._group, "cause": type(error).__name__})
            return
        self.committed.update({(tp.topic, tp.partition): offset for tp, offset in offsets.items()})

    async def check_assigned(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        """Decide where each newly assigned partition starts; what cannot be decided safely stops the processor."""
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        unread: list[TopicPartition] = []
        for partition in partitions:
            begin, end = begins[partition], ends[partition]
            committed = await consumer.committed(partition)
            if committed is not None:
                if not begin <= committed <= end:
                    what = f"offset {committed} is committed, the log starts at {begin} and ends at {end}"
                    raise StopOnPurpose(self._gap(partition, what))
                self.committed[(partition.topic, partition.partition)] = committed
                continue
            if begin > 0:
                raise StopOnPurpose(self._gap(partition, f"no offset is committed and the log starts at {begin}"))
            if await self._already_written(partition.topic, partition.partition):
                raise StopOnPurpose(
                    self._gap(partition, "no offset is committed, yet charges or rows from it were written before")
                )
            unread.append(partition)
        await self._begin_at_zero(consumer, unread)

    async def _begin_at_zero(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Commit the beginning before the first record is read: from then on a missing offset is a lost one.

        Without it, a kill between the first write and its commit would look like lost offsets.
        """
        if not partitions:
            return
        try:
            await consumer.commit(dict.fromkeys(partitions, 0))
        except CommitFailedError:
            # The group has moved on already: whoever is given these partitions next decides again.
            return
        for partition in partitions:
            consumer.seek(partition, 0)
            self.committed[(partition.topic, partition.partition)] = 0

    def _gap(self, partition: TopicPartition, what: str) -> str:
        return f"{self._group}: {partition.topic} partition {partition.partition}: {what}"

    def stop_on_purpose(self, reason: StopOnPurpose) -> None:
        """Called by the rebalance listener, whose exceptions aiokafka swallows."""
        self._stop_reason = reason
        self.reason = str(reason)


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, owner: BatchConsumer, consumer: AIOKafkaConsumer) -> None:
        self._owner = owner
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing to do: an uncommitted batch belongs to the next owner."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        pause_s = 0.5
        while True:
            try:
                await self._owner.check_assigned(self._consumer, assigned)
                return
            except StopOnPurpose as reason:
                self._owner.stop_on_purpose(reason)
                return
            except (Unavailable, KafkaError, OSError) as error:
                self._owner.reason = f"offsets cannot be read: {type(error).__name__}"
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
