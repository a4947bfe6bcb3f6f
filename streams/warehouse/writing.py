"""The step of the warehouse: rows in, progress noted, totals stated, in that order; then the shell commits.

A kill anywhere in between brings the whole batch again: rows are written once more, which changes nothing, and the
totals of its hours are stated once more.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from datetime import datetime

from aiokafka import ConsumerRecord

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.writing import AccountHour, write
from adapters.clock import Clock
from adapters.errors import Rejected
from adapters.kafka.parking import Parker
from adapters.tracing import Traces
from streams.metrics import StreamMetrics
from streams.spans import Step, spans_of
from streams.warehouse.progress_notes import ProgressNotes
from streams.warehouse.stated_totals import StatedTotals
from streams.warehouse.table_rows import Rows

logger = logging.getLogger(__name__)

TURN_RECORDS = 200


class Writing:
    """`process` is the function of a BatchConsumer. One batch at a time."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        progress: ProgressNotes,
        totals: StatedTotals,
        parker: Parker,
        clock: Clock,
        metrics: StreamMetrics,
        traces: Traces | None = None,
    ) -> None:
        self._clickhouse = clickhouse
        self._progress = progress
        self._totals = totals
        self._parker = parker
        self._clock = clock
        self._metrics = metrics
        self._traces = traces
        self._last_hours: set[AccountHour] = set()
        self._overtaken_hours: set[AccountHour] = set()

    async def process(self, records: Sequence[ConsumerRecord]) -> None:
        """Return once every record is in ClickHouse or parked, and the totals it changed are stated.

        Raises Unavailable: nothing was acknowledged, and all comes again. Raises StopOnPurpose where ClickHouse lacks
        what came before these records.
        """
        first: dict[tuple[str, int], int] = {}
        for record in records:
            first.setdefault((record.topic, record.partition), record.offset)
        began = self._clock.now()
        await self._progress.check(first)
        written = _Outcome()
        await self._write(records, written)
        if self._traces is not None:
            for span in spans_of(written.traced, began, self._clock.now()):
                self._traces.add(span)
        for record, rejected in written.rejected:
            await self._parker.park(record, rejected)
        await self._progress.note(records, written.event_times)
        self._last_hours = written.hours
        await self._totals.state(written.hours, records)
        self._count(records, written)

    def overtaken(self) -> None:
        """Another member may have stated the last batch's hours meanwhile, from more charges. Were ours the later
        statement, compaction would keep a total that is too low: they are to be stated once more."""
        self._overtaken_hours |= self._last_hours

    async def state_overtaken(self) -> None:
        """State what `overtaken` has noted. Raises Unavailable; then it stays noted."""
        hours = frozenset(self._overtaken_hours)
        if hours and await self._totals.state_as_they_stay(hours):
            self._overtaken_hours -= hours

    async def _write(self, records: Sequence[ConsumerRecord], written: _Outcome) -> None:
        taken, rows = [], Rows()
        for number, record in enumerate(records):
            if number % TURN_RECORDS == TURN_RECORDS - 1:
                await asyncio.sleep(0)
            try:
                written.event_times[record.topic, record.partition, record.offset] = rows.add(record)
                taken.append(record)
            except Rejected as rejected:
                written.rejected.append((record, rejected))
        try:
            result = await write(self._clickhouse, rows.batch())
        except (Rejected, ValueError, TypeError, OverflowError, struct.error) as error:
            # Some value fits no column. Halve until the record that holds it stands alone.
            if len(taken) <= 1:
                written.rejected += [(record, _as_rejected(error)) for record in taken]
                return
            middle = len(taken) // 2
            await self._write(taken[:middle], written)
            await self._write(taken[middle:], written)
            return
        written.rows += result.rows
        written.traced += rows.traced
        written.hours |= result.hours
        if result.conflicts:
            logger.error("events in conflict", extra={"ids": sorted(result.conflicts)[:20]})
            self._metrics.conflicts.inc(len(result.conflicts))
            # A conflict changes the total of hours in which another member may be stating newer charges just now.
            self._overtaken_hours |= result.hours

    def _count(self, records: Sequence[ConsumerRecord], written: _Outcome) -> None:
        now = self._clock.now()
        self._metrics.delays.observe(now, written.event_times.values())
        self._metrics.events.inc(len(records))
        self._metrics.parked.inc(len(written.rejected))
        self._metrics.rows.inc(written.rows)


class _Outcome:
    def __init__(self) -> None:
        self.rows = 0
        self.traced: list[Step] = []
        self.hours: set[AccountHour] = set()
        self.event_times: dict[tuple[str, int, int], datetime] = {}
        self.rejected: list[tuple[ConsumerRecord, Rejected]] = []


def _as_rejected(error: Exception) -> Rejected:
    if isinstance(error, Rejected):
        # ClickHouse quotes values in what it says.
        logger.error("row refused", extra={"cause": error.detail[:300]})
    return Rejected("invalid", "a value in it does not fit the tables")
