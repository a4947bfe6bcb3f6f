"""The warehouse as a stream: its consumer, its ClickHouse and its producer, wired together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress, code_of
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.progress import has_written
from adapters.clock import SystemClock
from adapters.errors import Rejected, Unavailable
from adapters.kafka.batches import BatchConsumer
from adapters.kafka.parking import Parker
from adapters.kafka.producer import EventProducer
from adapters.kafka.stops import Stops
from adapters.secret_files import CLICKHOUSE_ADMIN_PASSWORD
from adapters.settings import PlatformSettings
from adapters.tracing import traces_of
from streams.metrics import StreamMetrics
from streams.stream_process import run_together
from streams.warehouse.open_matters_gauges import OpenMattersGauges
from streams.warehouse.progress_notes import ProgressNotes
from streams.warehouse.settings import WarehouseSettings
from streams.warehouse.stated_totals import StatedTotals
from streams.warehouse.table_rows import TOPICS
from streams.warehouse.writing import Writing

logger = logging.getLogger(__name__)

PAUSE_S_MAX = 10.0
ANSWER_WITHIN_S = 10.0
# ClickHouse's numbers of: unknown table, unknown database.
_NO_SUCH_TABLE = frozenset({60, 81})


class WarehouseStream:
    """`run` writes until cancelled. Ready once ClickHouse is migrated and the consumer has its partitions."""

    def __init__(self, platform: PlatformSettings, settings: WarehouseSettings) -> None:
        self.metrics = StreamMetrics("warehouse")
        self._platform = platform
        self._settings = settings
        self._clock = SystemClock()
        self._clickhouse = ClickHouse(
            ClickHouseAddress.with_password_file(
                platform.clickhouse_url,
                ADMIN,
                platform.secrets_dir / CLICKHOUSE_ADMIN_PASSWORD,
                platform.clickhouse_database,
            )
        )
        self._producer = EventProducer(platform.kafka_bootstrap, timeout_s=settings.kafka_timeout_s)
        stops = Stops(platform.kafka_bootstrap, "warehouse")
        self._progress = ProgressNotes(self._clickhouse, self._clock, self._begin_of, self._committed, stops)
        self._open_matters = OpenMattersGauges(self._clickhouse, self.metrics.registry)
        self._traces = traces_of("warehouse")
        if self._traces is not None:
            self.metrics.registry.register(self._traces)
        self._step = Writing(
            self._clickhouse,
            self._progress,
            StatedTotals(self._clickhouse, self._producer, self._progress, self.metrics),
            Parker("warehouse", self._producer, self._clock),
            self._clock,
            self.metrics,
            self._traces,
        )
        self._consumer = BatchConsumer(
            platform.kafka_bootstrap,
            settings.group,
            TOPICS,
            self._written,
            self._has_written,
            overtaken=self._step.overtaken,
            records_max=settings.batch_records_max,
            poll_ms=100,
            # Small batches make small parts of tables.
            every_s=settings.batch_every_s,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            stops=stops,
        )
        self._waits_for = "ClickHouse has not answered yet"
        self._clickhouse_silent = False

    def readiness(self) -> tuple[bool, str]:
        if self._waits_for:
            return False, self._waits_for
        if self._clickhouse_silent:
            return False, "ClickHouse does not answer"
        return self._consumer.ready, self._consumer.reason

    def note(self) -> str:
        return self._open_matters.note

    async def lag(self) -> int:
        return await self._consumer.lag()

    async def run(self) -> None:
        try:
            await self._migrate()
            await run_together(
                self._consumer.run(), self._note_idle(), self._count_open_matters(), self._watch_clickhouse()
            )
        finally:
            await self._producer.stop()
            await self._clickhouse.close()
            if self._traces is not None:
                await asyncio.to_thread(self._traces.close)

    async def _begin_of(self, partition: tuple[str, int]) -> int:
        return await self._consumer.log_begin(*partition)

    def _committed(self) -> dict[tuple[str, int], int]:
        return self._consumer.committed

    async def _has_written(self, topic: str, partition: int) -> bool:
        return await has_written(self._clickhouse, topic, partition)

    async def _written(self, records: Sequence[ConsumerRecord]) -> None:
        try:
            await self._step.process(records)
        except Unavailable as error:
            await self._migrate_where_begun_anew(error)
            raise

    async def _migrate_where_begun_anew(self, error: Unavailable) -> None:
        """A ClickHouse that lost its tables gets them again: only then can it tell what it lacks."""
        if code_of(error) in _NO_SUCH_TABLE:
            logger.error("ClickHouse has lost its tables", extra={"cause": str(error)})
            await self._migrate()

    async def _migrate(self) -> None:
        pause_s = 0.2
        while True:
            try:
                ran = await migrate(self._clickhouse, self._platform.time_zone)
                logger.info("tables are up to date", extra={"ran": ran})
                self._waits_for = ""
                return
            except Unavailable as error:
                self._waits_for = str(error)
                logger.warning("ClickHouse is awaited", extra={"cause": str(error)})
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _note_idle(self) -> None:
        while True:
            await asyncio.sleep(self._settings.progress_every_s)
            asked_at = self._clock.now()
            try:
                await self._step.state_overtaken()
                await self._progress.note_idle(await self._consumer.progress(), asked_at)
            except Unavailable as error:
                logger.info("progress is not noted", extra={"cause": str(error)})
                await self._migrate_where_begun_anew(error)

    async def _watch_clickhouse(self) -> None:
        """One that stands still answers no batch either, but that is known only after the bound of a batch."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    self._clickhouse_silent = not await self._clickhouse.ready()
            except TimeoutError:
                self._clickhouse_silent = True
            await asyncio.sleep(self._settings.progress_every_s)

    async def _count_open_matters(self) -> None:
        while True:
            try:
                await self._open_matters.count()
            except (Rejected, Unavailable) as error:  # a number that is not shown must not stop what is billed
                logger.info("open matters are not counted", extra={"cause": str(error)})
            await asyncio.sleep(self._settings.open_matters_every_s)
