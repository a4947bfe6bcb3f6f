"""How far the warehouse has come, noted in ClickHouse per partition: what `as_of` tells a reader of bills."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from aiokafka import ConsumerRecord

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.progress import note_progress, progress
from adapters.clickhouse.rows import ProgressRow
from adapters.clock import Clock
from adapters.errors import StopOnPurpose
from adapters.kafka.stops import Stops
from domain.stops import not_accepted
from schemas.stops import Gap, Reread

Partition = tuple[str, int]
BeginOf = Callable[[Partition], Awaitable[int]]
"""Tells the first offset that a partition's log holds; raises Unavailable."""
Committed = Callable[[], Mapping[Partition, int]]
"""The committed offset of every partition that is read here."""


class ProgressNotes:
    """Notes how far each partition is written, and holds ClickHouse to what was noted here before.

    ClickHouse may be put back to an older state, or begun anew, while this process lives: whatever it knows is asked
    again before it notes more, for a new note would hide the hole.
    """

    def __init__(
        self, clickhouse: ClickHouse, clock: Clock, begin_of: BeginOf, committed: Committed, stops: Stops
    ) -> None:
        self._clickhouse = clickhouse
        self._clock = clock
        self._begin_of = begin_of
        self._committed = committed
        self._stops = stops
        self._notes: dict[Partition, ProgressRow] | None = None
        self._writing = asyncio.Lock()

    async def check(self, offsets: Mapping[Partition, int]) -> None:
        """Raise StopOnPurpose where Kafka goes on at an offset that lies ahead of what the tables hold.

        Then ClickHouse has lost what it had, or is another one, and going on would leave a hole in every bill, but for
        what an operator has accepted as lost.
        """
        async with self._writing:
            notes = await self._known()
            if any(offset > _next_offset(notes, partition) for partition, offset in offsets.items()):
                # Another warehouse may have had the partition in between.
                self._notes = notes = await progress(self._clickhouse)
            if any(offset > _next_offset(notes, partition) for partition, offset in offsets.items()):
                # Whoever lost one partition has lost others: an operator is asked about all of them at once.
                everywhere = {**self._committed(), **offsets}
                ahead = {tp: at for tp, at in everywhere.items() if at > _next_offset(notes, tp)}
                await self._check_accepted(ahead, notes)

    async def _check_accepted(self, ahead: Mapping[Partition, int], notes: Mapping[Partition, ProgressRow]) -> None:
        """What the log has lost may have been accepted; what it still holds must be read again."""
        gaps: list[Gap] = []
        reread: list[Reread] = []
        texts: list[str] = []
        for (topic, number), offset in sorted(ahead.items()):
            held, begin = _next_offset(notes, (topic, number)), await self._begin_of((topic, number))
            if begin > held:
                gaps.append(Gap(topic, number, held, min(begin, offset) - 1))
            if begin < offset:
                reread.append(Reread(topic, number))
            texts.append(
                f"{topic} partition {number} goes on at offset {offset}, but ClickHouse holds it only up to {held}"
            )
        missing = not_accepted(gaps, await self._stops.noted())
        if missing or reread:
            what = f"{'; '.join(texts)}: its data was lost, or it is another ClickHouse"
            raise StopOnPurpose(what, gaps=missing, reread=reread)

    async def note(
        self, records: Sequence[ConsumerRecord], event_times: Mapping[tuple[str, int, int], datetime]
    ) -> None:
        """All of `records` are in the tables. Raises Unavailable."""
        async with self._writing:
            notes = await self._still_held()
            now = self._clock.now()
            nexts: dict[Partition, int] = {}
            latest: dict[Partition, datetime] = {}
            for record in records:
                partition = (record.topic, record.partition)
                nexts[partition] = max(nexts.get(partition, 0), record.offset + 1)
            for (topic, number, _), time in event_times.items():
                if (topic, number) not in latest or latest[topic, number] < time:
                    latest[topic, number] = time
            changed = {
                partition: _noted(partition, notes.get(partition), behind, latest.get(partition), now)
                for partition, behind in nexts.items()
            }
            await note_progress(self._clickhouse, list(changed.values()))
            notes.update(changed)

    async def note_idle(self, offsets: Mapping[Partition, tuple[int, int]], asked_at: datetime) -> None:
        """Of (committed, end) by partition, note those in which nothing was left at `asked_at`. Raises Unavailable."""
        await self.check({partition: committed for partition, (committed, _) in offsets.items()})
        async with self._writing:
            notes = await self._still_held()
            idle: dict[Partition, ProgressRow] = {}
            for partition, (committed, end) in offsets.items():
                known = notes.get(partition)
                # A batch may have been noted since; then its own note stands.
                if committed >= end and (known is None or (known.next_offset <= end and known.noted_at <= asked_at)):
                    time = known.event_time if known else None
                    idle[partition] = ProgressRow(*partition, end, time, True, asked_at)
            await note_progress(self._clickhouse, list(idle.values()))
            notes.update(idle)

    def noted_of(self, topic: str) -> dict[int, int]:
        """The next offset of each partition of `topic` at the last note here, by whichever writer it was noted."""
        return {number: row.next_offset for (name, number), row in (self._notes or {}).items() if name == topic}

    async def _still_held(self) -> dict[Partition, ProgressRow]:
        """What ClickHouse has noted now. Raises StopOnPurpose where that is less than it had noted before."""
        known, noted = self._notes or {}, await progress(self._clickhouse)
        lost = {tp: row.next_offset for tp, row in known.items() if _next_offset(noted, tp) < row.next_offset}
        if lost:
            everywhere = {**self._committed(), **lost}
            await self._check_accepted({tp: at for tp, at in everywhere.items() if at > _next_offset(noted, tp)}, noted)
        self._notes = noted
        return noted

    async def _known(self) -> dict[Partition, ProgressRow]:
        if self._notes is None:
            self._notes = await progress(self._clickhouse)
        return self._notes


def _noted(
    partition: Partition, known: ProgressRow | None, behind: int, latest: datetime | None, now: datetime
) -> ProgressRow:
    """Neither the offset nor the event time goes back."""
    times = [time for time in (known.event_time if known else None, latest) if time is not None]
    return ProgressRow(*partition, max(behind, known.next_offset if known else 0), max(times, default=None), False, now)


def _next_offset(notes: Mapping[Partition, ProgressRow], partition: Partition) -> int:
    known = notes.get(partition)
    return known.next_offset if known else 0
