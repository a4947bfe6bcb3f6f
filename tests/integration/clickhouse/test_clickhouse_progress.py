"""How far the warehouse has come is the furthest that anybody noted."""

from __future__ import annotations

from datetime import timedelta

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.progress import note_progress, progress
from adapters.clickhouse.rows import ProgressRow
from schemas.topics import USAGE
from tests.integration.clickhouse.conftest import NOON


def note(next_offset: int, minute: int, caught_up: bool = False) -> ProgressRow:
    return ProgressRow(USAGE.name, 0, next_offset, NOON, caught_up, NOON + timedelta(minutes=minute))


async def test_a_writer_that_was_taken_for_dead_takes_nothing_back(clickhouse: ClickHouse) -> None:
    await note_progress(clickhouse, [note(65, 1)])
    await note_progress(clickhouse, [note(4, 2)])
    assert (await progress(clickhouse))[USAGE.name, 0].next_offset == 65
    await clickhouse.command("OPTIMIZE TABLE warehouse_offsets FINAL")
    assert (await progress(clickhouse))[USAGE.name, 0].next_offset == 65


async def test_of_notes_of_one_offset_the_last_stands(clickhouse: ClickHouse) -> None:
    for number in range(5):
        await note_progress(clickhouse, [note(65, number, caught_up=number % 2 == 0)])
    assert (await progress(clickhouse))[USAGE.name, 0] == note(65, 4, caught_up=True)
