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

RECORDS_MAX = 2_000
SCAN_TIMEOUT_S = 60.0
"""Of one attempt, far below max_poll_interval. The next one goes on where it stood: only charges are appended."""


class ChargesWritten:
    """Scans `hydra.charges` for charges of `source_type` whose source event lies in a given partition of its topic.

    Runs only for a partition that has no committed offset, so hardly ever; then the log may be long.
    """

    def __init__(
        self,
        bootstrap: str,
        source_type: SourceType,
        partition_of: Callable[[ChargesRaised], int],
        *,
        timeout_s: float = SCAN_TIMEOUT_S,
    ) -> None:
        self._bootstrap = bootstrap
        self._source_type = source_type
        self._partition_of = partition_of
        self._timeout_s = timeout_s
        self._positions: dict[TopicPartition, int] = {}
        self._found: set[int] = set()

    async def __call__(self, topic: str, partition: int) -> bool:
        """Stops at the first match. Raises Unavailable, which tells how far it has come where the time is over."""
        if partition in self._found:
            return True
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        ends: dict[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(self._timeout_s):
                await consumer.start()
                return await self._scanned(consumer, partition, ends)
        except (KafkaError, OSError, TimeoutError) as error:
            if ends and isinstance(error, TimeoutError):
                read, held = sum(self._positions.values()), sum(ends.values())
                raise Unavailable(
                    f"{CHARGES.name} is searched for what was written before: {read} of {held} messages"
                ) from error
            raise Unavailable(f"{CHARGES.name} cannot be read: {type(error).__name__}") from error
        finally:
            await stop_consumer(consumer)

    async def _scanned(self, consumer: AIOKafkaConsumer, partition: int, ends: dict[TopicPartition, int]) -> bool:
        partitions = [TopicPartition(CHARGES.name, number) for number in range(CHARGES.partitions)]
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends.update(await consumer.end_offsets(partitions))
        for tp in partitions:
            self._positions[tp] = max(self._positions.get(tp, 0), begins[tp])
            if self._positions[tp] > ends[tp]:
                self._positions[tp] = begins[tp]  # the topic was made anew
            consumer.seek(tp, self._positions[tp])
        while waiting := [tp for tp in partitions if self._positions[tp] < ends[tp]]:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=500, max_records=RECORDS_MAX)).items():
                self._found |= {number for record in records if (number := self._source(record.value)) is not None}
                self._positions[tp] = records[-1].offset + 1
            if partition in self._found:
                return True
            await asyncio.sleep(0)
        return False

    def _source(self, value: bytes | None) -> int | None:
        """The partition that the source event of these charges lies in; None where they are another's."""
        try:
            raised = codec.decode(value or b"", ChargesRaised).data
        except (msgspec.DecodeError, RecursionError):
            return None
        return self._partition_of(raised) if raised.source_type == self._source_type else None
