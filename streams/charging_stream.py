"""A rater as a stream: its consumer, the recorded prices and its producer, wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from adapters.clock import SystemClock
from adapters.kafka.batches import BatchConsumer
from adapters.kafka.parking import Parker
from adapters.kafka.producer import EventProducer
from adapters.kafka.stops import Stops
from adapters.settings import PlatformSettings
from adapters.tracing import traces_of
from schemas.charges import ChargesRaised, SourceType
from schemas.topics import Topic
from streams.charges_written import ChargesWritten
from streams.charging import Charging, Data, Rate
from streams.metrics import StreamMetrics
from streams.recorded_prices import RecordedPrices
from streams.settings import StreamSettings
from streams.stream_process import run_together

BATCH_BYTES = 900_000
"""Of one partition's charges before compression: below what Kafka takes, and few, because each request costs."""


@dataclass(frozen=True)
class Rater:
    """What tells one rater from the other. `partition_of` gives the partition of `topic` that a charge came from."""

    process: str
    topic: Topic
    source_type: SourceType
    source: str
    partition_of: Callable[[ChargesRaised], int]


class ChargingStream:
    """`run` rates until cancelled. Ready once the prices are read and the consumer has its partitions."""

    def __init__(
        self,
        rater: Rater,
        data_type: type[Data],
        rate: Rate[Data],
        platform: PlatformSettings,
        settings: StreamSettings,
    ) -> None:
        self.metrics = StreamMetrics(rater.process)
        self._traces = traces_of(rater.process)
        if self._traces is not None:
            self.metrics.registry.register(self._traces)
        clock = SystemClock()
        stops = Stops(platform.kafka_bootstrap, rater.process)
        self._producer = EventProducer(
            platform.kafka_bootstrap, timeout_s=settings.kafka_timeout_s, batch_bytes=BATCH_BYTES
        )
        self._prices = RecordedPrices(platform.kafka_bootstrap, self.metrics, stops)
        step = Charging(
            data_type,
            rate,
            rater.source,
            self._prices,
            self._producer,
            Parker(rater.process, self._producer, clock),
            clock,
            self.metrics,
            self._traces,
        )
        self._consumer = BatchConsumer(
            platform.kafka_bootstrap,
            settings.group,
            [rater.topic],
            step.process,
            ChargesWritten(platform.kafka_bootstrap, rater.source_type, rater.partition_of),
            records_max=settings.batch_records_max,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            stops=stops,
        )

    def readiness(self) -> tuple[bool, str]:
        if not self._prices.caught_up:
            return False, "prices are being read"
        if not self._prices.connected:
            return False, "prices cannot be read: Kafka is away"
        return self._consumer.ready, self._consumer.reason

    def note(self) -> str:
        return ""

    async def lag(self) -> int:
        return await self._consumer.lag()

    async def run(self) -> None:
        try:
            await run_together(self._prices.run(), self._consumer.run())
        finally:
            await self._producer.stop()
            if self._traces is not None:
                await asyncio.to_thread(self._traces.close)
