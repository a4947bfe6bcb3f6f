"""The money path's shell over real Kafka: nothing skipped, nothing committed before it is written."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.batches import BatchConsumer
from adapters.kafka.producer import EventProducer
from adapters.kafka.stops import Stops
from schemas.stops import Gap, Reread, StopNoted
from schemas.topics import FOREVER_MS, Topic

Process = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]


async def never_written(topic: str, partition: int) -> bool:
    return False


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[Topic]:
    topic = Topic(f"test-{uuid.uuid4().hex[:8]}", "any", 2, "delete", FOREVER_MS, ())
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic.name, 2, 1)])
    yield topic
    await admin.close()


async def fill(kafka: str, topic: Topic, values: range) -> None:
    async with EventProducer(kafka) as producer:
        await producer.publish_all([(topic, str(value), str(value).encode()) for value in values])


async def run_until(consumer: BatchConsumer, done: Callable[[], bool], deadline_s: float = 60.0) -> None:
    task = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(deadline_s):
            while not done() and not task.done():
                await asyncio.sleep(0.02)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopOnPurpose):
            await task


async def test_every_record_is_processed_and_the_next_run_goes_on_behind_them(kafka: str, topic: Topic) -> None:
    seen: list[int] = []

    async def process(records: Sequence[ConsumerRecord]) -> None:
        seen.extend(int(record.value) for record in records)

    await fill(kafka, topic, range(100))
    consumer = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(consumer, lambda: sum(consumer.committed.values()) == 100)
    assert sorted(seen) == list(range(100))

    await fill(kafka, topic, range(100, 120))
    consumer = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(consumer, lambda: sum(consumer.committed.values()) == 120)
    assert sorted(seen) == list(range(120))


async def test_an_unavailable_dependency_brings_the_same_records_again(kafka: str, topic: Topic) -> None:
    seen: list[int] = []
    failures = iter([True, True])

    async def process(records: Sequence[ConsumerRecord]) -> None:
        if next(failures, False):
            raise Unavailable("the warehouse is away")
        seen.extend(int(record.value) for record in records)

    await fill(kafka, topic, range(50))
    consumer = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(consumer, lambda: sum(consumer.committed.values()) == 50)
    assert sorted(seen) == list(range(50))


async def test_what_a_batch_waits_for_is_told_while_it_is_tried_again(kafka: str, topic: Topic) -> None:
    told: list[tuple[bool, str]] = []
    failures = iter([True, True, True])

    async def process(records: Sequence[ConsumerRecord]) -> None:
        told.append((consumer.ready, consumer.reason))
        if next(failures, False):
            raise Unavailable("the warehouse is away")

    await fill(kafka, topic, range(50))
    consumer = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(consumer, lambda: consumer.ready and sum(consumer.committed.values()) == 50)
    assert told[1:4] == [(False, "the warehouse is away")] * 3


async def test_nothing_is_committed_when_processing_breaks_off(kafka: str, topic: Topic) -> None:
    async def breaks(records: Sequence[ConsumerRecord]) -> None:
        raise AssertionError("a bug of ours")

    await fill(kafka, topic, range(10))
    with pytest.raises(AssertionError):
        await run_until(BatchConsumer(kafka, topic.name, [topic], breaks, never_written), lambda: False)

    seen: list[int] = []

    async def process(records: Sequence[ConsumerRecord]) -> None:
        seen.extend(int(record.value) for record in records)

    await run_until(BatchConsumer(kafka, topic.name, [topic], process, never_written), lambda: len(seen) == 10)
    assert sorted(seen) == list(range(10))


async def test_without_an_offset_but_with_written_output_it_stops(kafka: str, topic: Topic) -> None:
    async def has_written(topic: str, partition: int) -> bool:
        return True

    async def process(records: Sequence[ConsumerRecord]) -> None:
        raise AssertionError("must not be reached")

    await fill(kafka, topic, range(10))
    with pytest.raises(StopOnPurpose, match="were written before"):
        await run_until(BatchConsumer(kafka, topic.name, [topic], process, has_written), lambda: False)


async def truncate(kafka: str, topic: Topic, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    partitions = {TopicPartition(topic.name, n): RecordsToDelete(before_offset=before) for n in range(topic.partitions)}
    await admin.delete_records(partitions)
    await admin.close()


async def test_a_log_truncated_before_the_first_read_stops_it(kafka: str, topic: Topic) -> None:
    async def process(records: Sequence[ConsumerRecord]) -> None:
        raise AssertionError("must not be reached")

    await fill(kafka, topic, range(100))
    await truncate(kafka, topic, 5)
    with pytest.raises(StopOnPurpose, match="log starts at 5"):
        await run_until(BatchConsumer(kafka, topic.name, [topic], process, never_written), lambda: False)


async def test_a_log_truncated_behind_the_committed_offset_stops_it(kafka: str, topic: Topic) -> None:
    seen: list[int] = []

    async def process(records: Sequence[ConsumerRecord]) -> None:
        seen.extend(int(record.value) for record in records)

    await fill(kafka, topic, range(100))
    first = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(first, lambda: sum(first.committed.values()) == 100)
    await fill(kafka, topic, range(100, 300))
    await truncate(kafka, topic, 90)
    with pytest.raises(StopOnPurpose, match="is committed, the log starts at 90"):
        await run_until(BatchConsumer(kafka, topic.name, [topic], process, never_written), lambda: False)


class SlowlyAccepted(Stops):
    """An operator has accepted that all of a topic is read again; to be told so takes longer than a fetch."""

    def __init__(self, bootstrap: str, topic: Topic) -> None:
        super().__init__(bootstrap, "a process")
        self._reread = tuple(Reread(topic.name, number) for number in range(topic.partitions))
        self.went_on: list[Reread] = []

    async def noted(self) -> list[StopNoted]:
        await asyncio.sleep(1)
        accepted = StopNoted(
            process=self.process, what="accepted", at=datetime.now(UTC), reason="", reread=self._reread
        )
        return [accepted]

    async def note_went_on(self, gaps: Sequence[Gap], reread: Sequence[Reread]) -> None:
        self.went_on += reread


async def test_what_was_fetched_before_it_is_decided_where_to_go_on_is_not_processed(kafka: str, topic: Topic) -> None:
    seen: list[int] = []

    async def process(records: Sequence[ConsumerRecord]) -> None:
        seen.extend(int(record.value) for record in records)

    await fill(kafka, topic, range(100))
    first = BatchConsumer(kafka, topic.name, [topic], process, never_written)
    await run_until(first, lambda: sum(first.committed.values()) == 100)
    await fill(kafka, topic, range(100, 120))
    seen.clear()

    stops = SlowlyAccepted(kafka, topic)
    again = BatchConsumer(kafka, topic.name, [topic], process, never_written, stops=stops)
    await run_until(again, lambda: sum(again.committed.values()) == 120)
    # From the beginning, each record once: nothing of where the group stood before came first.
    assert sorted(seen) == list(range(120))
    assert len(stops.went_on) == topic.partitions


async def test_two_consumers_of_a_group_share_and_lose_nothing_when_one_leaves(kafka: str, topic: Topic) -> None:
    seen: list[int] = []

    async def process(records: Sequence[ConsumerRecord]) -> None:
        seen.extend(int(record.value) for record in records)
        await asyncio.sleep(0.05)

    one = BatchConsumer(kafka, topic.name, [topic], process, never_written, records_max=20)
    two = BatchConsumer(kafka, topic.name, [topic], process, never_written, records_max=20)
    other = asyncio.create_task(two.run())
    await fill(kafka, topic, range(400))
    await run_until(one, lambda: len(set(seen)) > 100)
    await fill(kafka, topic, range(400, 500))
    async with asyncio.timeout(60):
        while len(set(seen)) < 500:
            await asyncio.sleep(0.05)
    other.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await other
    assert set(seen) == set(range(500))


async def committed(kafka: str, topic: Topic) -> dict[int, int]:
    """What the group of a test has committed, by partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(topic.name)
    finally:
        await admin.close()
    return {partition.partition: offset.offset for partition, offset in offsets.items()}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(90):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_a_batch_commits_nothing_whose_partitions_were_elsewhere_meanwhile(kafka: str, topic: Topic) -> None:
    holds_both, may_end = asyncio.Event(), asyncio.Event()
    overtaken: list[bool] = []

    async def stands_still(records: Sequence[ConsumerRecord]) -> None:
        if {record.partition for record in records} == {0, 1}:
            holds_both.set()
            await may_end.wait()

    async def process(records: Sequence[ConsumerRecord]) -> None:
        pass

    def is_overtaken() -> None:
        overtaken.append(True)

    slow = BatchConsumer(kafka, topic.name, [topic], stands_still, never_written, overtaken=is_overtaken)
    running = asyncio.create_task(slow.run())
    count = 0
    while not holds_both.is_set():
        await fill(kafka, topic, range(count, count + 100))
        count += 100
        await asyncio.sleep(0.2)
    await fill(kafka, topic, range(count, count + 50))

    # Another one takes a partition over, reads it to its end and leaves it to the slow one again.
    other = BatchConsumer(kafka, topic.name, [topic], process, never_written)

    async def other_is_through() -> bool:
        return sum(other.committed.values()) > 0 and await other.lag() == 0

    joined = asyncio.create_task(other.run())
    await until(other_is_through)
    joined.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await joined

    async def has_both_again() -> bool:
        return len(await slow.progress()) == 2

    await until(has_both_again)
    may_end.set()

    async def all_committed() -> bool:
        return sum((await committed(kafka, topic)).values()) == count + 50

    await until(all_committed)
    assert overtaken
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_one_that_gets_no_partition_is_ready_too(kafka: str, topic: Topic) -> None:
    async def process(records: Sequence[ConsumerRecord]) -> None:
        pass

    consumers = [BatchConsumer(kafka, topic.name, [topic], process, never_written) for _ in range(3)]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]

    async def all_ready_and_shared_out() -> bool:
        shares = [len(await consumer.progress()) if consumer.ready else None for consumer in consumers]
        return None not in shares and sorted(shares, key=str) == [0, 1, 1]

    try:
        await until(all_ready_and_shared_out)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
