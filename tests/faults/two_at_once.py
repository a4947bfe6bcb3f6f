"""Two processes of one control service over one database, one of which stands still for a while."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.servers.control_process import ControlProcess

LONG_TRANSACTION_S = 1.0
"""Less than a process waits for a lock, and far more than a transaction takes."""


@asynccontextmanager
async def stopped(process: ControlProcess, database: str) -> AsyncIterator[None]:
    """SIGSTOP at any moment, and SIGCONT at the end.

    PostgreSQL ends a transaction that is left open. SQLite has nobody who could: there it is not stopped within one,
    whose lock would let nobody change anything.
    """
    while True:
        process.process.send_signal(signal.SIGSTOP)
        while not _stands_still(process.process.pid):
            await asyncio.sleep(0.01)
        if not database.startswith("sqlite") or not await asyncio.to_thread(_is_locked, database):
            break
        process.process.send_signal(signal.SIGCONT)
        while await asyncio.to_thread(_is_locked, database):
            pass  # it has not ended its transaction yet
    try:
        yield
    finally:
        process.process.send_signal(signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether each of its threads has stopped: one within a system call ends that first, and may get a lock by it."""
    try:
        states = [path.read_text().rpartition(") ")[2][0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except FileNotFoundError:  # a thread has just ended
        return False
    return all(state == "T" for state in states)


def _is_locked(database: str) -> bool:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"), timeout=LONG_TRANSACTION_S, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False
