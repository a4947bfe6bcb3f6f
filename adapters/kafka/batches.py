"""The shell of every money-path consumer: read a batch, compute, write, then commit. It never skips.

An offset is committed only after `process` has returned, so whatever dies, the batch comes again; ids are derived,
so that a batch that comes again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.starting_points import Question, check_accepted, question_of, reread_of
from adapters.kafka.stopping import stop_consumer
from adapters.kafka.stops import Stops
from domain.stops import to_reread
from schemas.topics import Topic

logger = logging.getLogger(__name__)

DECISION_POLL_S = 0.02

Process = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
AlreadyWritten = Callable[[str, int], Awaitable[bool]]
"""Tells whether this processor has written anything that came from (topic, partition)."""


class BatchConsumer:
    """Reads `topics` as `group` and hands batches of at most `records_max` to `process`, one at a time, each begun no
    sooner than `every_s` after the one before it.

    `process` raises Unavailable to have the same records again after a pause (1 s doubling to 10 s); anything else
    ends `run`. StopOnPurpose is raised where going on could skip or double: a partition without a committed offset
    whose log starts above 0 or from which `already_written` says that something was written; a committed offset
    that the log no longer holds. What an operator has accepted, by `stops`, is gone past or read again.
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
        every_s: float = 0.0,
        session_timeout_ms: int = 15_000,
        stops: Stops | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = [topic.name for topic in topics]
        self._process = process
        self._already_written = already_written
        self._records_max = records_max
        self._poll_ms = poll_ms
        self._every_s = every_s
        self._next_at = 0.0
        self._session_timeout_ms = session_timeout_ms
        self._stops = stops
        self._consumer: AIOKafkaConsumer | None = None
        self._waits = False
        """A batch could not be processed and is tried again: what is missing stays told while it is tried."""
        self._decided = False
        """Whether it is decided where each assigned partition goes on. What was fetched before is not processed."""
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

    async def log_begin(self, topic: str, partition: int) -> int:
        """The first offset that the log holds. Raises Unavailable."""
        if self._consumer is None:
            raise Unavailable(self.reason)
        wanted = TopicPartition(topic, partition)
        try:
            begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets([wanted])
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {type(error).__name__}") from error
        return begins[wanted]

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
        self._decided = False
        consumer.subscribe(self._topics, listener=_Assigned(self, consumer))
        await consumer.start()
        pause_s = 1.0
        while True:
            # Before the fetch, so that what arrives meanwhile goes with this batch and not with the next one.
            await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
            batches = await self._fetched(consumer)
            if self._stop_reason is not None:
                raise self._stop_reason
            if not self._decided:
                await asyncio.sleep(DECISION_POLL_S)
                continue
            if consumer.assignment() and not self._waits:
                self.reason = ""
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            self._next_at = time.monotonic() + self._every_s
            try:
                await self._process(records)
            except Unavailable as error:
                self._waits, self.reason = True, str(error)
                logger.warning("batch waits", extra={"group": self._group, "cause": self.reason, "pause_s": pause_s})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 10.0)
                self._rewind(consumer, batches)
                continue
            pause_s, self._waits = 1.0, False
            await self._commit(consumer, batches)

    async def _fetched(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            batches: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
                timeout_ms=self._poll_ms, max_records=self._records_max
            )
        except NoOffsetForPartitionError:
            # The fetcher was faster than the listener, which decides where such a partition starts, or stops.
            return {}
        except OffsetOutOfRangeError as error:
            await self.check_assigned(consumer, consumer.assignment())
            if await self._all_held(consumer):
                return {}  # a fetch from where a partition stood before it was set on
            raise StopOnPurpose(f"{self._group}: the log no longer holds the next offset to read") from error
        return batches

    @staticmethod
    async def _all_held(consumer: AIOKafkaConsumer) -> bool:
        """Whether the log of each assigned partition holds the offset that is read next, or ends there."""
        partitions = consumer.assignment()
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        return all([begins[tp] <= await consumer.position(tp) <= ends[tp] for tp in partitions])

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
        self._waits = False  # another's now, perhaps
        noted = await self._stops.noted() if self._stops else []
        allowed = to_reread(noted)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        starts: dict[TopicPartition, int] = {}
        goes_on: dict[tuple[str, int], int] = {}
        questions: list[Question] = []
        for partition in sorted(partitions):
            begin, committed = begins[partition], await consumer.committed(partition)
            unread = committed is None and begin == 0
            written = unread and await self._already_written(partition.topic, partition.partition)
            question = question_of(partition, committed, begin, ends[partition], written)
            if question is None and reread_of(partition) in allowed:
                question = Question(partition, "to be read again", begin, reread=reread_of(partition))
            if question is not None:
                questions.append(question)
            elif committed is None:
                starts[partition] = 0
            else:
                goes_on[(partition.topic, partition.partition)] = committed
        # All at once: who looks meanwhile, and has to ask an operator, must ask about every partition.
        self.committed.update(goes_on)
        check_accepted(self._group, questions, noted, allowed)
        starts |= {question.partition: question.start for question in questions}
        if not await self._begin_at(consumer, starts):
            return
        # The fetcher may have been faster than this decision: whatever it had read is read again from here.
        for partition in partitions:
            consumer.seek(partition, self.committed[(partition.topic, partition.partition)])
        self._decided = True
        if questions:
            await self._note_went_on(questions)

    async def _begin_at(self, consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> bool:
        """Commit each beginning before its first record is read: from then on a missing offset is a lost one.

        Without it, a kill between the first write and its commit would look like lost offsets.
        """
        if not starts:
            return True
        try:
            await consumer.commit(dict(starts))
        except (CommitFailedError, IllegalStateError):
            # The group has moved on already: whoever is given these partitions next decides again.
            return False
        self.committed.update({(tp.topic, tp.partition): offset for tp, offset in starts.items()})
        return True

    async def _note_went_on(self, questions: Sequence[Question]) -> None:
        assert self._stops is not None, "nothing can have been accepted"
        for question in questions:
            where = {"topic": question.partition.topic, "partition": question.partition.partition}
            logger.critical("went on as the operator accepted", extra={**where, "offset": question.start})
        gaps = [question.gap for question in questions if question.gap is not None]
        reread = [question.reread for question in questions if question.reread is not None]
        await self._stops.note_went_on(gaps, reread)

    def revoked(self) -> None:
        """Called by the rebalance listener: whatever is assigned next is decided on anew."""
        self._decided = False

    def stop_on_purpose(self, reason: StopOnPurpose) -> None:
        """Called by the rebalance listener, whose exceptions aiokafka swallows."""
        self._stop_reason = reason
        self.reason = str(reason)


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, owner: BatchConsumer, consumer: AIOKafkaConsumer) -> None:
        self._owner = owner
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """An uncommitted batch belongs to the next owner."""
        self._owner.revoked()

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
                cause = str(error) if isinstance(error, Unavailable) else type(error).__name__
                self._owner.reason = f"offsets cannot be read: {cause}"
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
