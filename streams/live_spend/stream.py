"""live_spend as a stream: the view, the Faust application that fills it, and the publisher of balances."""

from __future__ import annotations

import asyncio
import logging
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.clock import SystemClock
from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from adapters.kafka.stopping import stop_consumer
from adapters.settings import PlatformSettings
from schemas.topics import SPEND
from streams.live_spend.balances import BalancePublisher
from streams.live_spend.faust_app import live_spend_app
from streams.live_spend.settings import LiveSpendSettings
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics
from streams.stream_process import run_together

logger = logging.getLogger(__name__)

KAFKA_PAUSE_S = 1.0


class LiveSpendStream:
    """`run` keeps balances until cancelled. Ready once its partitions are read and their balances are published."""

    def __init__(self, platform: PlatformSettings, settings: LiveSpendSettings) -> None:
        self.metrics = StreamMetrics("live_spend")
        self._bootstrap = platform.kafka_bootstrap
        self._data_dir = platform.home / "live_spend"
        self._settings = settings
        self._view = SpendView(ZoneInfo(platform.time_zone))
        self._producer = EventProducer(platform.kafka_bootstrap, timeout_s=settings.kafka_timeout_s)
        self._publisher = BalancePublisher(
            platform.kafka_bootstrap, self._view, self._producer, SystemClock(), self.metrics
        )
        self._assigned = False
        self._ends_unknown = asyncio.Event()

    def readiness(self) -> tuple[bool, str]:
        if not self._assigned:
            return False, "Kafka has assigned no partitions yet"
        if not self._view.caught_up:
            return False, "hydra.spend is being read from its beginning"
        return self._publisher.settled, "" if self._publisher.settled else "balances are being published"

    def note(self) -> str:
        return ""

    async def lag(self) -> int:
        ends = await self._ends(self._view.owned)
        return sum(max(0, end - self._view.next_offset(number)) for number, end in ends.items())

    async def run(self) -> None:
        try:
            await run_together(
                self._run_faust(),
                self._ask_ends(),
                self._publisher.follow(),
                self._publisher.run(self._settings.publish_every_s),
            )
        finally:
            await self._producer.stop()

    async def _run_faust(self) -> None:
        await self._wait_for_kafka()
        app = live_spend_app(
            self._bootstrap, self._data_dir, self._settings, self._view, self.metrics, self._on_assigned
        )
        try:
            app.finalize()
            await app.start()
            await app.wait_until_stopped()
            raise Unavailable(f"Faust stopped: {app.crash_reason!r}")
        finally:
            await app.stop()

    async def _wait_for_kafka(self) -> None:
        while True:
            try:
                await self._ends(frozenset(range(SPEND.partitions)))
                return
            except Unavailable as error:
                logger.warning("Kafka is awaited", extra={"cause": str(error)})
                await asyncio.sleep(KAFKA_PAUSE_S)

    async def _on_assigned(self, partitions: frozenset[int]) -> None:
        """Only notes: the member's session may end while it runs."""
        self._view.own(partitions)
        self._assigned = True
        self._ends_unknown.set()

    async def _ask_ends(self) -> None:
        while True:
            await self._ends_unknown.wait()
            self._ends_unknown.clear()
            try:
                self._view.ends_at(await self._ends(self._view.owned))
            except Unavailable as error:
                logger.warning("the ends of its partitions are awaited", extra={"cause": str(error)})
                await asyncio.sleep(KAFKA_PAUSE_S)
                self._ends_unknown.set()

    async def _ends(self, partitions: frozenset[int]) -> dict[int, int]:
        """Where partitions of `hydra.spend` end now; 0 where nothing is left to read. Raises Unavailable."""
        if not partitions:
            return {}
        wanted = [TopicPartition(SPEND.name, number) for number in partitions]
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False)
        try:
            async with asyncio.timeout(self._settings.kafka_timeout_s):
                await consumer.start()
                begins = await consumer.beginning_offsets(wanted)
                ends = await consumer.end_offsets(wanted)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not tell where {SPEND.name} ends: {type(error).__name__}") from error
        finally:
            await stop_consumer(consumer)
        return {tp.partition: end if end > begins[tp] else 0 for tp, end in ends.items()}
