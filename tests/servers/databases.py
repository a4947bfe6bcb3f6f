"""An empty database for a test of what runs on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import secrets
from pathlib import Path

import asyncpg
import pytest


async def empty_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new one of this kind, `sqlite` (in `folder`) or `postgresql` (on the server that a run shares)."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/test.db"
    server: str = request.getfixturevalue("postgresql")
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.replace("/postgres?", f"/{name}?")
