"""One database per test, on SQLite and on PostgreSQL: every test of this folder runs on both."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.database.engine import Database
from adapters.database.migrations import migrate
from tests.servers.databases import empty_database

SCRIPTS = Path(__file__).parent / "migrations"


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return await empty_database(request.param, request, tmp_path / "folder")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database, SCRIPTS)
    yield database
    await database.close()
