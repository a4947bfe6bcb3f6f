"""No room on the disk: what ClickHouse acknowledges is there, and what it cannot write it refuses."""

import asyncio
import resource
from pathlib import Path

import pytest

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.writing import Batch, write
from adapters.errors import Unavailable
from tests.integration.clickhouse.conftest import ZONE, usage_row
from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse

ROWS = 500
MORE_THAN_ANY_DISK_HAS = str(1 << 60)


def batch(number: int) -> Batch:
    return Batch(usage=[usage_row(f"cmp-{number}-{row}") for row in range(ROWS)])


def client_of(server: ClickHouseProcess) -> ClickHouse:
    return ClickHouse(ClickHouseAddress(server.url, ADMIN, server.admin_password), answer_timeout_s=60)


@pytest.mark.parametrize("file_bytes_max", [0, 100, 4_000])
async def test_what_the_disk_did_not_take_is_never_acknowledged(tmp_path: Path, file_bytes_max: int) -> None:
    """The engine itself says that all is well when a write fails or falls short."""
    with running_clickhouse(tmp_path) as server:
        clickhouse = client_of(server)
        await migrate(clickhouse, ZONE)
        for number in range(3):
            await write(clickhouse, batch(number))
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (file_bytes_max, hard))
        with pytest.raises(Unavailable):
            await write(clickhouse, batch(3))
        assert await asyncio.to_thread(server.wait) == 1
        await asyncio.to_thread(server.start)
        # What was acknowledged is there; what was not is written again, as the warehouse does.
        assert await clickhouse.query("SELECT countIf(id NOT LIKE 'cmp-3-%') FROM v_usage") == [(3 * ROWS,)]
        await write(clickhouse, batch(3))
        counted = "SELECT count(), uniqExact(id), sum(prompt_tokens) > 0 FROM v_usage"
        assert await clickhouse.query(counted) == [(4 * ROWS, 4 * ROWS, 1)]
        await clickhouse.close()


async def test_with_too_little_room_left_it_writes_nothing_and_still_answers(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path) as server:
        clickhouse = client_of(server)
        await migrate(clickhouse, ZONE)
        await write(clickhouse, batch(0))
        await clickhouse.close()
    with running_clickhouse(tmp_path, keep_free_bytes=MORE_THAN_ANY_DISK_HAS) as server:
        clickhouse = client_of(server)
        with pytest.raises(Unavailable, match="not enough space"):
            await write(clickhouse, batch(1))
        assert await clickhouse.query("SELECT count() FROM v_usage") == [(ROWS,)]
        await clickhouse.close()
    with running_clickhouse(tmp_path) as server:
        clickhouse = client_of(server)
        await write(clickhouse, batch(1))
        assert await clickhouse.query("SELECT count() FROM v_usage") == [(2 * ROWS,)]
        await clickhouse.close()
