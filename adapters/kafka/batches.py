"""The shell of every money-path consumer: read a batch, compute, write, then commit. It never skips.

An offset is committed only after `process` has returned, so whatever dies, the batch comes again; ids are derived,
so that a batch that comes again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

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

ASSIGNMENT_POLL_S = 0.02
DECISION_PAUSE_S, DECISION_PAUSE_MAX_S = 0.5, 5.0

Process = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
AlreadyWritten = Callable[[str, int], Awaitable[bool]]
"""Tells whether this processor has written anything that came from (topic, partition)."""
Overtaken = Callable[[], None]
"""Called where the partitions of the last batch moved while it was processed, perhaps in part: another member may have
read on from where it began, and have written newer things than this batch did."""


class BatchConsumer:
    """Reads `topics` as `group` and hands batches of at most `records_max` to `process`, one at a time, each begun no
    sooner than `every_s` after the one before it.

    `process` raises Unavailable to have the same records again after a pause (1 s doubling to 10 s); anything else
    ends `run`. StopOnPurpose is raised where going on could skip or double: a partition without a committed offset
    whose log starts above 0 or from which `already_written` says that something was written; a committed offset
    that the log no longer holds. What an operator has accepted, by `stops`, is gone past or read again.

    Partitions that move while a batch is processed make it stale, also where the same ones come back: whoever has
    them then has decided anew where they go on.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[Topic],
        process: Process,
        already_written: AlreadyWritten,
        *,
        overtaken: Overtaken | None = None,
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
        self._overtaken = overtaken
        self._records_max = records_max
        self._poll_ms = poll_ms
        self._every_s = every_s
        self._next_at = 0.0
        self._session_timeout_ms = session_timeout_ms
        self._stops = stops
        self._consumer: AIOKafkaConsumer | None = None
        self._waits = False
        """A batch could not be processed and is tried again: what is missing stays told while it is tried."""
        self._moves = 0
        """How often partitions were given to this member or taken from it."""
        self._assigned = False
        """Whether Kafka has said which partitions are this member's, if any."""
        self._decided = False
        """Whether it is decided where each assigned partition goes on. What was fetched before is not processed."""
        self._decision_pause_s = DECISION_PAUSE_S
        self._to_note: dict[TopicPartition, Question] = {}
        """What an operator has accepted and is gone past, but not yet noted."""
        self.reason = "Kafka has not answered yet"
        self.committed: dict[tuple[str, int], int] = {}

    @property
    def ready(self) -> bool:
        """Whether partitions were assigned and the last batch went through; `reason` tells why not. Still so while
        partitions move."""
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
        self._moved(assigned=False)
        consumer.subscribe(self._topics, listener=_Moves(self._moved))
        await consumer.start()
        pause_s = 1.0
        while True:
            # Before the fetch, so that what arrives meanwhile goes with this batch and not with the next one.
            await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
            if self._assigned and not self._decided:
                await self._try_to_decide(consumer)
            batches = await self._fetched(consumer)
            if not self._decided:
                await asyncio.sleep(ASSIGNMENT_POLL_S)
                continue
            if not self._waits:
                self.reason = ""
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            self._next_at = time.monotonic() + self._every_s
            moves = self._moves
            try:
                await self._process(records)
            except Unavailable as error:
                if self._moves == moves:
                    self._waits, self.reason = True, str(error)
                elif self._overtaken is not None:
                    self._overtaken()
                logger.warning("batch waits", extra={"group": self._group, "cause": str(error), "pause_s": pause_s})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 10.0)
                if self._moves == moves:
                    for partition, batch in batches.items():
                        consumer.seek(partition, batch[0].offset)
                continue
            pause_s, self._waits = 1.0, False
            committed = self._moves == moves and await self._commit(consumer, batches)
            if not committed:
                # Their owner reads the batch again, ids make it one.
                logger.warning("batch not committed: its partitions have moved", extra={"group": self._group})
            if self._overtaken is not None and (not committed or self._moves != moves):
                self._overtaken()

    async def _fetched(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            batches: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
                timeout_ms=self._poll_ms, max_records=self._records_max
            )
        except NoOffsetForPartitionError:
            # The fetcher was faster than the decision where such a partition starts.
            return {}
        except OffsetOutOfRangeError:
            # A fetch from where a partition stood before it was set on, or the log has lost what comes next: then the
            # decision stops this processor.
            self._decided = False
            return {}
        return batches

    async def _commit(self, consumer: AIOKafkaConsumer, batches: dict[TopicPartition, list[ConsumerRecord]]) -> bool:
        """Whether Kafka has taken it; False where the group has moved on."""
        offsets = {tp: batch[-1].offset + 1 for tp, batch in batches.items()}
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            return False
        self.committed.update({(tp.topic, tp.partition): offset for tp, offset in offsets.items()})
        return True

    async def _try_to_decide(self, consumer: AIOKafkaConsumer) -> None:
        """Here and not in the rebalance listener: aiokafka sends no heartbeats while that one runs."""
        try:
            await self._decide(consumer)
            self._decision_pause_s = DECISION_PAUSE_S
        except StopOnPurpose as reason:
            self.reason = str(reason)
            raise
        except (Unavailable, KafkaError, OSError) as error:
            cause = str(error) if isinstance(error, Unavailable) else type(error).__name__
            self.reason = f"offsets cannot be read: {cause}"
            await asyncio.sleep(self._decision_pause_s)
            self._decision_pause_s = min(self._decision_pause_s * 2, DECISION_PAUSE_MAX_S)

    async def _decide(self, consumer: AIOKafkaConsumer) -> None:
        """Decide where each assigned partition goes on, and go there; nothing where partitions move meanwhile.

        Raises StopOnPurpose for what cannot be decided safely, Unavailable and Kafka's errors.
        """
        moves, partitions = self._moves, consumer.assignment()
        starts, questions = await self._starts(consumer, partitions) if partitions else ({}, [])
        if self._moves != moves or not await self._begin_at(consumer, starts):
            return
        self._to_note |= {question.partition: question for question in questions}
        await self._note_went_on()
        if self._moves != moves:
            return
        # The fetcher may have been faster than this decision: whatever it had read is read again from here.
        for partition in partitions:
            consumer.seek(partition, self.committed[(partition.topic, partition.partition)])
        self._decided = True
        logger.info("partitions are taken up", extra={"group": self._group, "partitions": len(partitions)})

    async def _starts(
        self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], list[Question]]:
        """Where those partitions start that do not simply go on, and what an operator has accepted for it."""
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
        return starts | {question.partition: question.start for question in questions}, questions

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

    async def _note_went_on(self) -> None:
        if not self._to_note:
            return
        assert self._stops is not None, "nothing can have been accepted"
        questions = list(self._to_note.values())
        for question in questions:
            where = {"topic": question.partition.topic, "partition": question.partition.partition}
            logger.critical("went on as the operator accepted", extra={**where, "offset": question.start})
        gaps = [question.gap for question in questions if question.gap is not None]
        reread = [question.reread for question in questions if question.reread is not None]
        await self._stops.note_went_on(gaps, reread)
        self._to_note.clear()

    def _moved(self, *, assigned: bool) -> None:
        """Partitions were taken (`assigned` False) or given: it is decided anew where they go on."""
        self._moves += 1
        self._assigned, self._decided, self._waits = assigned, False, False


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Only notes: while it runs no heartbeat is sent, and aiokafka swallows what it raises."""

    def __init__(self, moved: Callable[..., None]) -> None:
        self._moved = moved

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._moved(assigned=False)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._moved(assigned=True)
