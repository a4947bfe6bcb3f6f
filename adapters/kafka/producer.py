"""An idempotent producer that is bounded in memory and in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerFenced

from adapters.clock_drift import DRIFT
from adapters.errors import Unavailable
from adapters.kafka.metadata_pace import pace_metadata
from adapters.kafka.whole_batches import WholeBatches, outcome_seen
from schemas.topics import Topic

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0


class EventProducer:
    """Publishes with `acks=all` and idempotence, so order holds within a partition.

    `send` returns once the message is in the bounded buffer, with a future of its acknowledgement; `publish` waits for
    the acknowledgement. Both raise Unavailable when Kafka does not take it in `timeout_s`.
    """

    def __init__(
        self, bootstrap: str, *, timeout_s: float = 30.0, linger_ms: int = 0, batch_bytes: int = 262_144
    ) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._linger_ms = linger_ms
        self._batch_bytes = batch_bytes
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._lost_sequence = False
        self._told_away = False

    async def start(self) -> None:
        """Connect. Raises Unavailable where Kafka is away; `send` and `publish` connect by themselves too."""
        async with self._starting:
            if self._producer is not None:
                return
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                enable_idempotence=True,
                acks="all",
                linger_ms=self._linger_ms,
                max_batch_size=self._batch_bytes,
                max_request_size=2_097_152,
                # Less CPU and smaller than lz4, which aiokafka compresses at level 9.
                compression_type="zstd",
                request_timeout_ms=int(self._timeout_s * 1000),
            )
            pace_metadata(producer)
            try:
                await self._begin(producer)
            except (KafkaError, OSError) as error:
                await producer.stop()
                cause = type(error).__name__
                if not self._told_away:
                    self._told_away = True
                    logger.warning("Kafka does not answer", extra={"bootstrap": self._bootstrap, "cause": cause})
                # Without the address: what is raised here shows on /health/ready, which customers can ask.
                raise Unavailable(f"Kafka does not answer: {cause}") from error
            self._producer = producer
            self._told_away = False

    async def _begin(self, producer: AIOKafkaProducer) -> None:
        await producer.start()

    def _cannot_go_on(self) -> bool:
        return self._producer is not None and (self._lost_sequence or self._producer._sender.sender_task.done())

    async def stop(self) -> None:
        """Send what is buffered (bounded by the timeout and STOP_TIMEOUT_S) and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), min(self._timeout_s, STOP_TIMEOUT_S))
            except (TimeoutError, KafkaError) as error:
                logger.warning("producer stopped with messages unsent", extra={"cause": type(error).__name__})

    async def _connect_if_needed(self) -> None:
        # A message that expires once numbered leaves a gap: the broker refuses every later one of its partition,
        # and aiokafka never numbers anew. What failed has been told as failed and is sent again by its owner.
        if self._cannot_go_on():
            self._lost_sequence = False
            logger.warning("Kafka producer cannot go on and is made anew")
            await self.stop()
        if self._producer is None:
            await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def send(
        self, topic: Topic, key: str, value: bytes | None, *, partition: int | None = None
    ) -> asyncio.Future[object]:
        """Buffer one message; the future is its acknowledgement. `value` None is a tombstone."""
        await self._connect_if_needed()
        assert self._producer is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                future: asyncio.Future[object] = await self._producer.send(
                    topic.name, value, key=key.encode(), partition=partition
                )
        except (KafkaError, TimeoutError, OSError) as error:
            raise Unavailable(f"Kafka does not take messages for {topic.name}: {type(error).__name__}") from error
        return future

    async def publish(self, topic: Topic, key: str, value: bytes | None, *, partition: int | None = None) -> None:
        """Send one message and wait until Kafka has it."""
        began = DRIFT.begin()
        await self.acknowledged([await self.send(topic, key, value, partition=partition)], began)

    async def publish_all(self, messages: list[tuple[Topic, str, bytes | None]]) -> None:
        """Send many and wait until Kafka has them all; on Unavailable any part of them may have arrived."""
        began = DRIFT.begin()
        await self.acknowledged([await self.send(topic, key, value) for topic, key, value in messages], began)

    async def publish_batch(self, topic: Topic, messages: list[tuple[str, bytes]]) -> None:
        """Send (key, value) pairs of one topic in whole batches and wait until Kafka has them all.

        Partitions are those that `send` gives, at a small part of its CPU. On Unavailable any part may have arrived.
        """
        async with self.whole_batches(topic) as batches:
            for key, value in messages:
                batches.add(key, value)

    @asynccontextmanager
    async def whole_batches(self, topic: Topic) -> AsyncIterator[WholeBatches]:
        """Messages of one topic that leave in whole batches; at the block's end Kafka has them all.

        Raises Unavailable, and then any part of them may have arrived. Nothing more leaves once the block has failed.
        """
        await self._connect_if_needed()
        assert self._producer is not None
        began = DRIFT.begin()
        batches = WholeBatches(self._producer, topic)
        try:
            yield batches
            try:
                async with asyncio.timeout(self._timeout_s):
                    acknowledgements = await batches.left()
            except (KafkaError, TimeoutError, OSError) as error:
                raise Unavailable(f"Kafka does not take messages for {topic.name}: {type(error).__name__}") from error
        except BaseException:
            await batches.drop()
            raise
        await self.acknowledged(acknowledgements, began)

    async def acknowledged(self, futures: list[asyncio.Future[Any]], began: float | None = None) -> None:
        """Wait until Kafka has acknowledged every one of `futures`, else raise Unavailable.

        `began`, where DRIFT gave it before the first was sent, has the answer tell how right our clock is.
        """
        if not futures:
            return
        done, pending = await asyncio.wait(futures, timeout=self._timeout_s)
        failed = [error for future in done if (error := future.exception()) is not None]
        for future in pending:
            future.add_done_callback(outcome_seen)
        if any(isinstance(error, OutOfOrderSequenceNumber | ProducerFenced) for error in failed):
            self._lost_sequence = True
        if pending or failed:
            cause = type(failed[0]).__name__ if failed else "timeout"
            raise Unavailable(f"Kafka did not acknowledge {len(pending) + len(failed)} of {len(futures)}: {cause}")
        if began is not None:
            DRIFT.acknowledged(began, futures[-1].result())
