"""Migrations: again at any time, by two at once, never an edited one; every column says what it is."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from adapters.clickhouse import rows
from adapters.clickhouse.client import ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.writing import Batch, write
from adapters.errors import Misconfigured, Unavailable
from tests.integration.clickhouse.conftest import ZONE, charge_row

TABLES = {
    "usage": rows.UsageRow,
    "instance_events": rows.InstanceEventRow,
    "charges": rows.ChargeRow,
    "unrated": rows.UnratedRow,
    "prices": rows.PriceRow,
    "parked": rows.ParkedRow,
    "parked_replays": rows.ParkedReplayRow,
    "warehouse_offsets": rows.ProgressRow,
}


async def test_they_can_be_run_again_and_then_do_nothing(empty: ClickHouse) -> None:
    assert "0001_events.sql" in await migrate(empty, ZONE)
    assert await migrate(empty, ZONE) == []


async def test_two_at_once_leave_what_one_leaves(empty: ClickHouse, address: ClickHouseAddress) -> None:
    other = ClickHouse(address)
    await asyncio.gather(migrate(empty, ZONE), migrate(other, ZONE), migrate(empty, ZONE))
    await other.close()
    assert await migrate(empty, ZONE) == []
    assert await empty.query("SELECT count() FROM v_bill_lines") == [(0,)]


async def test_an_edited_one_is_refused_by_name(clickhouse: ClickHouse) -> None:
    await clickhouse.insert("schema_migrations", ("name", "checksum"), [("0002_conflicts.sql", "of another text")])
    with pytest.raises(Misconfigured, match=r"0002_conflicts\.sql was edited"):
        await migrate(clickhouse, ZONE)


async def test_days_follow_the_time_zone_and_move_with_it(clickhouse: ClickHouse) -> None:
    late = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)
    await write(clickhouse, Batch(charges=[charge_row("c", "s", event_time=late)]))
    assert await clickhouse.query("SELECT day, month FROM v_charges") == [(date(2026, 4, 1), "2026-04")]
    assert "views/20_charges.sql" in await migrate(clickhouse, "UTC")
    assert await clickhouse.query("SELECT day, month FROM v_charges") == [(date(2026, 3, 31), "2026-03")]


async def test_every_table_view_and_column_says_what_it_is(clickhouse: ClickHouse, address: ClickHouseAddress) -> None:
    silent = await clickhouse.query(
        "SELECT table, name FROM system.columns WHERE database = {database:String} AND comment = ''"
        " UNION ALL SELECT name, '' FROM system.tables WHERE database = {database:String} AND comment = ''",
        {"database": address.database},
    )
    assert silent == []


@pytest.mark.parametrize("table", TABLES)
async def test_rows_have_the_columns_of_their_tables(
    clickhouse: ClickHouse, address: ClickHouseAddress, table: str
) -> None:
    columns = await clickhouse.query(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}"
        " AND default_kind = '' ORDER BY position",
        {"database": address.database, "table": table},
    )
    assert sorted(name for (name,) in columns) == sorted(TABLES[table]._fields)


async def test_a_missing_table_is_told(empty: ClickHouse) -> None:
    await empty.create_database()
    with pytest.raises(Unavailable, match="migrations have not run"):
        await empty.insert("usage", ["id"], [("a",)])


async def test_a_database_must_have_a_name_that_is_one(address: ClickHouseAddress) -> None:
    client = ClickHouse(replace(address, database="x`; DROP DATABASE hydra"))
    with pytest.raises(Misconfigured):
        await client.create_database()
