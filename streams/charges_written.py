"""Whether a rater has written charges before: what tells a first start from lost offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.errors import Unavailable
from adapters.kafka.stopping import stop_consumer
from schemas import codec
from schemas.charges import ChargesRaised, SourceType
from schemas.topics import CHARGES

SCAN_TIMEOUT_S = 240.0
"""Below max_poll_interval: a scan runs only for a partition that has no committed offset."""


class ChargesWritten:
    """Scans `hydra.charges` for charges of `source_type` whose source event lies in a given partition of its topic."""

    def __init__(self, bootstrap: str, source_type: SourceType, partition_of: Callable[[ChargesRaised], int]) -> None:
        self._bootstrap = bootstrap
        self._source_type = source_type
        self._partition_of = partition_of

    async def __call__(self, topic: str, partition: int) -> bool:
        """Stops at the first match. Raises Unavailable."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S):
                await consumer.start()
                return await self._found(consumer, partition)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"{CHARGES.name} cannot be read: {type(error).__name__}") from error
        finally:
            await stop_consumer(consumer)

    async def _found(self, consumer: AIOKafkaConsumer, partition: int) -> bool:
        partitions = [TopicPartition(CHARGES.name, number) for number in range(CHARGES.partitions)]
        consumer.assign(partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        waiting = {tp for tp, end in ends.items() if end > 0}
        while waiting:
            batches = await consumer.getmany(*waiting, timeout_ms=500)
            if any(self._is_of(record.value, partition) for batch in batches.values() for record in batch):
                return True
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
        return False

    def _is_of(self, value: bytes | None, partition: int) -> bool:
        try:
            raised = codec.decode(value or b"", ChargesRaised).data
        except (msgspec.DecodeError, RecursionError):
            return False
        return raised.source_type == self._source_type and self._partition_of(raised) == partition
