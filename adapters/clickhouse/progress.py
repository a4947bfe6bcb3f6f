"""How far the warehouse has come: noted per partition of each topic, told to whoever reads a bill as `as_of`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.rows import ProgressRow
from domain.calendar import utc
from schemas import topics

BILLED_TOPICS = (topics.USAGE.name, topics.INSTANCES.name, topics.CHARGES.name)


async def note_progress(clickhouse: ClickHouse, rows: Sequence[ProgressRow]) -> None:
    """Note it only after what it covers has been written.

    The furthest note stands: a writer that was taken for dead and notes its old batch later takes nothing back.
    """
    if rows:
        await clickhouse.insert("warehouse_offsets", ProgressRow._fields, rows)


async def progress(clickhouse: ClickHouse) -> dict[tuple[str, int], ProgressRow]:
    """By topic and partition; what was never noted is absent."""
    rows = await clickhouse.query(
        "SELECT topic, topic_partition, next_offset, event_time, caught_up, noted_at FROM warehouse_offsets FINAL"
    )
    return {(row[0], row[1]): ProgressRow(*row) for row in rows}


async def has_written(clickhouse: ClickHouse, topic: str, partition: int) -> bool:
    """Whether anything that came from this partition has been written and noted."""
    rows = await clickhouse.query(
        "SELECT 1 FROM warehouse_offsets WHERE topic = {topic:String} AND topic_partition = {partition:UInt32}"
        " AND next_offset > 0 LIMIT 1",
        {"topic": topic, "partition": partition},
    )
    return bool(rows)


async def as_of(clickhouse: ClickHouse, names: Collection[str] = BILLED_TOPICS) -> datetime | None:
    """What happened before this instant (UTC) is in the tables, but for late events: the slowest of `names`.
    A rater that is behind is not seen here.

    None while a topic has not been read at all.
    """
    rows = await clickhouse.query(
        "SELECT topic, as_of FROM v_as_of WHERE topic IN {names:Array(String)}", {"names": list(names)}
    )
    if {topic for topic, _ in rows} != set(names) or any(instant is None for _, instant in rows):
        return None
    return min(utc(instant) for _, instant in rows)
