"""Reads a whole topic from its first offset and follows it: for state topics and for prices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.stopping import stop_consumer
from adapters.kafka.stops import Stops
from domain.stops import not_accepted
from schemas.stops import Gap
from schemas.topics import Topic

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, PAUSE_MAX_S = 0.2, 5.0

OnRecord = Callable[[ConsumerRecord], None]


class TopicFollower:
    """Hands every record of `topic`, in order per partition, to `on_record`, which must not block.

    `caught_up` is set once everything is read that the topic held at start. With Kafka away `run` keeps trying with
    back-off and `connected` is False. An exception of `on_record` other than for a bad record ends `run`: we are wrong.

    With `stops`, a topic of which nothing may be missing: where its log has lost what was not read, `run` raises
    StopOnPurpose unless an operator has accepted just that.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        on_record: OnRecord,
        *,
        records_max: int = 2_000,
        stops: Stops | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._on_record = on_record
        self._records_max = records_max
        self._stops = stops
        self._partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        self._consumer: AIOKafkaConsumer | None = None
        # Asks for end offsets on a connection of its own: on the reading one a question waits behind the long poll.
        self._asker: AIOKafkaConsumer | None = None
        self._read: dict[TopicPartition, int] = {}
        self._progress = asyncio.Condition()
        self._pause_s = FIRST_PAUSE_S
        self.caught_up = asyncio.Event()
        self.connected = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError, Unavailable) as error:
                logger.warning(
                    "topic cannot be read",
                    extra={"topic": self._topic.name, "cause": type(error).__name__, "pause_s": self._pause_s},
                )
            finally:
                self.connected = False
                consumers = (self._consumer, self._asker)
                self._consumer = self._asker = None
                for consumer in consumers:
                    if consumer is not None:
                        await stop_consumer(consumer)
            pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, PAUSE_MAX_S)
            await asyncio.sleep(pause_s)

    async def catch_up(self, timeout_s: float = 20.0) -> None:
        """Return once all is read that the topic holds now. Raises Unavailable on time-out or with Kafka away."""
        asker = self._asker
        if asker is None or not self.connected:
            raise Unavailable(f"{self._topic.name} is not being read: Kafka is away")
        try:
            async with asyncio.timeout(timeout_s):
                ends: dict[TopicPartition, int] = await asker.end_offsets(self._partitions)
                async with self._progress:
                    await self._progress.wait_for(lambda: self._past(ends))
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self._topic.name} cannot be read to its end: {type(error).__name__}") from error

    async def _check_whole(self, begins: dict[TopicPartition, int]) -> None:
        if self._stops is None:
            return
        short = [tp for tp in self._partitions if begins[tp] > self._read.get(tp, 0)]
        # From 0: what it has read is forgotten where it stops, and missing where it starts again.
        lost = [Gap(tp.topic, tp.partition, 0, begins[tp] - 1) for tp in short]
        if lost and (missing := not_accepted(lost, await self._stops.noted())):
            what = ", ".join(f"partition {gap.partition} starts at {gap.last_offset + 1}" for gap in missing)
            raise StopOnPurpose(f"{self._topic.name} has lost what nobody here has read: {what}", gaps=missing)

    def _past(self, ends: dict[TopicPartition, int]) -> bool:
        return all(self._read.get(partition, 0) >= end for partition, end in ends.items())

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            # Going on elsewhere by itself would skip unseen: a position that the log no longer holds is decided anew.
            auto_offset_reset="none",
            max_partition_fetch_bytes=4_194_304,
        )
        self._consumer = consumer
        self._asker = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False)
        await consumer.start()
        await self._asker.start()
        begins = await self._asker.beginning_offsets(self._partitions)
        ends = await self._asker.end_offsets(self._partitions)
        await self._check_whole(begins)
        consumer.assign(self._partitions)
        for partition in self._partitions:
            # A restart of this follower goes on where it stood; a log that starts later cannot be read from 0.
            self._read[partition] = max(self._read.get(partition, 0), begins[partition])
            if self._read[partition] > ends[partition]:
                self._read[partition] = begins[partition]  # the topic was made anew
            consumer.seek(partition, self._read[partition])
        self.connected = True
        settled = False
        while True:
            batches = await consumer.getmany(timeout_ms=500, max_records=self._records_max)
            for partition, records in batches.items():
                for record in records:
                    self._on_record(record)
                    self._read[partition] = record.offset + 1
            if batches:
                async with self._progress:
                    self._progress.notify_all()
            if not settled and self._past(ends):
                settled = True
                self.caught_up.set()
                self._pause_s = FIRST_PAUSE_S  # this outage is over; the next one begins anew
            # Many records may wait in the fetcher: give others their turn.
            await asyncio.sleep(0)
