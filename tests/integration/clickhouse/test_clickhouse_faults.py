"""ClickHouse dies, again and again, under a writer and readers: nothing is lost, nothing is counted twice."""

import asyncio
from decimal import Decimal
from pathlib import Path

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.writing import Batch, write
from adapters.errors import Unavailable
from tests.integration.clickhouse.conftest import ZONE, charge_row, usage_row
from tests.servers.clickhouse import running_clickhouse

BATCHES, ROWS, KILLS = 60, 200, 3


def batch(number: int) -> Batch:
    ids = [f"cmp-{number}-{row}" for row in range(ROWS)]
    return Batch(
        usage=[usage_row(id) for id in ids],
        charges=[charge_row(f"c-{id}", id, amount=Decimal("0.000000000001")) for id in ids],
    )


async def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path) as server:
        clickhouse = ClickHouse(ClickHouseAddress(server.url, ADMIN, server.admin_password), answer_timeout_s=20)
        await migrate(clickhouse, ZONE)
        failures = 0
        written = asyncio.Semaphore(0)

        async def write_all() -> None:
            nonlocal failures
            for number in range(BATCHES):
                while True:
                    try:
                        await write(clickhouse, batch(number))
                        break
                    except Unavailable:
                        failures += 1
                        await asyncio.sleep(0.1)
                written.release()

        async def kill_and_start() -> None:
            for _ in range(KILLS):
                # In the midst of the writing, wherever that is.
                for _ in range(BATCHES // (KILLS + 1)):
                    await written.acquire()
                await asyncio.sleep(0.03)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

        await asyncio.gather(write_all(), kill_and_start())
        assert failures > 0
        total = BATCHES * ROWS
        assert await clickhouse.query("SELECT count() FROM v_usage") == [(total,)]
        assert await clickhouse.query("SELECT count(), toString(sum(amount)) FROM v_charges") == [
            (total, f"{Decimal(total).scaleb(-12):f}".rstrip("0"))
        ]
        assert await clickhouse.query("SELECT count() FROM conflicts") == [(0,)]
        await clickhouse.close()


async def test_writers_and_readers_at_once(clickhouse: ClickHouse) -> None:
    async def read() -> None:
        seen = 0
        while seen < BATCHES * ROWS // 3:
            [(now,)] = await clickhouse.query("SELECT count() FROM v_charges")
            assert now >= seen and now % ROWS == 0
            seen = now

    async def write_some(start: int) -> None:
        for number in range(start, BATCHES // 3, 4):
            await write(clickhouse, batch(number))

    await asyncio.gather(*(write_some(start) for start in range(4)), read(), read())
    assert await clickhouse.query("SELECT count() FROM v_usage") == [(BATCHES // 3 * ROWS,)]
