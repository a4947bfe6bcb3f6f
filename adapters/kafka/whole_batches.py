"""Messages of one topic, gathered by partition into whole batches: a tenth of the CPU of one future a message."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiokafka import AIOKafkaProducer

from adapters.kafka.partitions import partition_of
from schemas.topics import Topic


class WholeBatches:
    """`add` never waits; a batch that is full leaves while the next one is gathered. Order holds within a partition.

    What is gathered is bounded by whoever adds: `left` must be awaited once a batch of input is through.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: Topic) -> None:
        self._producer = producer
        self._topic = topic
        self._keys: dict[str, tuple[int, bytes]] = {}
        self._open: dict[int, Any] = {}
        self._full: dict[int, deque[Any]] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._acknowledgements: list[asyncio.Future[object]] = []

    def add(self, key: str, value: bytes) -> None:
        """Partitions are those that a producer gives by itself."""
        known = self._keys.get(key)
        if known is None:
            raw = key.encode()
            known = self._keys[key] = (partition_of(raw, self._topic.partitions), raw)
        number, raw = known
        batch = self._open.get(number)
        if batch is not None and batch.append(key=raw, value=value, timestamp=None) is not None:
            return
        if batch is not None:
            self._leave(number, batch)
        batch = self._open[number] = self._producer.create_batch()
        # A batch takes its first message whatever its size; the broker bounds it.
        taken = batch.append(key=raw, value=value, timestamp=None)
        assert taken is not None, "an empty batch refused a message"

    async def left(self) -> list[asyncio.Future[object]]:
        """Send what is still gathered; the acknowledgements of all. Raises what aiokafka raises."""
        while self._open:
            self._leave(*self._open.popitem())
        await asyncio.gather(*self._leaving.values())
        return self._acknowledgements

    async def drop(self) -> None:
        """Send nothing more: an owner that failed sends all of it again."""
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        for future in self._acknowledgements:
            future.add_done_callback(outcome_seen)

    def _leave(self, number: int, batch: Any) -> None:
        waiting = self._full.setdefault(number, deque())
        waiting.append(batch)
        task = self._leaving.get(number)
        if task is None or (task.done() and task.exception() is None):
            self._leaving[number] = asyncio.create_task(self._send(number, waiting))

    async def _send(self, number: int, waiting: deque[Any]) -> None:
        while waiting:
            future = await self._producer.send_batch(waiting.popleft(), self._topic.name, partition=number)
            self._acknowledgements.append(future)


def outcome_seen(future: asyncio.Future[object]) -> None:
    """Its failure has been told already; asyncio need not log it as unseen."""
    if not future.cancelled():
        future.exception()
