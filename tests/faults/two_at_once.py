"""Two processes of one control service over one database, one of which stands still for a while."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.servers.control_process import ControlProcess

LOCK_WITHIN_S = 120.0
POLL_S = 0.01


@asynccontextmanager
async def stopped(process: ControlProcess, database: str) -> AsyncIterator[None]:
    """SIGSTOP at any moment, and SIGCONT at the end.

    PostgreSQL ends a transaction that is left open. SQLite has nobody who could: there it is not stopped within one,
    whose lock would let nobody change anything.
    """
    try:
        if database.startswith("sqlite"):
            async with _lock_held(database):  # so the process does not hold it
                await _stop(process)
        else:
            await _stop(process)
        yield
    finally:
        process.process.send_signal(signal.SIGCONT)


async def _stop(process: ControlProcess) -> None:
    process.process.send_signal(signal.SIGSTOP)
    while not _stands_still(process.process.pid):
        await asyncio.sleep(POLL_S)


def _stands_still(pid: int) -> bool:
    """Whether each of its threads has stopped: one within a system call ends that first, and may get a lock by it."""
    try:
        states = [path.read_text().rpartition(") ")[2][0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except FileNotFoundError:  # a thread has just ended
        return False
    return all(state == "T" for state in states)


@asynccontextmanager
async def _lock_held(database: str) -> AsyncIterator[None]:
    """SQLite's lock for writers is ours meanwhile."""
    path = database.removeprefix("sqlite:///")
    connection = sqlite3.connect(path, timeout=LOCK_WITHIN_S, isolation_level=None, check_same_thread=False)
    try:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
