"""One service's database: SQLite (embedded) or PostgreSQL (by setting), with the same promises on both."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from adapters.errors import Misconfigured, Unavailable

logger = logging.getLogger(__name__)

POOL_SIZE = 8
POOL_TIMEOUT_S = 10.0
BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
IDLE_IN_TRANSACTION_S = 5.0
LOCK_TIMEOUT_S = 10.0
"""A process that stands still holds nobody up for longer than both together: PostgreSQL ends the transaction that it
has left open, and those of it that wait for the same lock do not get it one after the other. SQLite waits as long for
its lock, BUSY_TIMEOUT_MS."""

WAL_PAUSE_S = 0.02
_LOCK_NOT_AVAILABLE = "55P03"
_LOGIN_REFUSED = ("28000", "28P01")
# By class: the connection is lost, no room, an operator's hand (also: starting up), the system below it failed. And of
# two transactions that cannot both be, the one that may come again.
_CANNOT_NOW = ("08", "53", "57", "58", "40001", "40P01")
# The driver prepares a statement without asking for the server's word that it waits: that is not idle to the server,
# which would leave it so for ever.
_END_WHAT_STANDS_STILL = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND wait_event = 'ClientRead' "
    "AND state_change < clock_timestamp() - make_interval(secs => :idle_s)"
)

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


class Database:
    """Transactions on one database. `url` is `sqlite:///<absolute path>` or `postgresql://user:password@host/name`,
    or without the password where that is the text of `password_file`. `setting` names the URL in what is raised:
    Misconfigured where the two cannot be used.

    On SQLite a transaction takes the write lock at its beginning (BEGIN IMMEDIATE), so that none fails half-way for
    what another wrote, and a commit is on the disk when it returns (WAL, synchronous FULL). On PostgreSQL it is READ
    COMMITTED: what is read to be changed must be read with `with_for_update()`, which SQLite leaves out.
    """

    def __init__(self, url: str, *, setting: str = "the database's URL", password_file: Path | None = None) -> None:
        self._on_commit: list[Callable[[], None]] = []
        parsed = _parsed(url, setting)
        self.engine = _engine(parsed if password_file is None else _with_password(parsed, password_file, setting))
        self.dialect = self.engine.dialect.name

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each commit made here that wakes; it must not block (the relay's `wake`)."""
        self._on_commit.append(callback)

    @asynccontextmanager
    async def transaction(self, *, wakes: bool = True) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed at the end, rolled back by any exception.

        `wakes` is False for the relay's own, which would have itself look again at once, for ever. Raises Unavailable
        where the database does not answer or cannot now; IntegrityError and the caller's own pass through.
        """
        try:
            with _unavailable():
                async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
                    yield session
        except _LockedOut:
            await self._end_what_stands_still()
            raise
        if wakes:
            for callback in self._on_commit:
                callback()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection in one transaction, for looking only and for migrations. Raises as `transaction` does."""
        with _unavailable():
            async with self.engine.begin() as connection:
                yield connection

    async def _end_what_stands_still(self) -> None:
        """End the transactions of our own whose processes have not said anything for too long."""
        with contextlib.suppress(Unavailable):
            async with self.connection() as connection:
                ended = (await connection.execute(_END_WHAT_STANDS_STILL, {"idle_s": IDLE_IN_TRANSACTION_S})).all()
            if ended:
                logger.warning("transactions of a process that stands still were ended", extra={"count": len(ended)})

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


class _LockedOut(Unavailable):
    """Nobody else is to be waited for any longer."""


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
        raise Unavailable(f"the database does not answer: {_cause(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the database closed the connection") from error
        state = getattr(error.orig, "sqlstate", None)
        if state in _LOGIN_REFUSED:
            raise Unavailable("the database refuses the user or its password") from error
        if state == _LOCK_NOT_AVAILABLE:
            raise _LockedOut("another transaction holds the database's lock for too long") from error
        if state is not None and state.startswith(_CANNOT_NOW):
            raise Unavailable(f"the database cannot do this now (SQLSTATE {state})") from error
        raise


def _cause(error: Exception) -> str:
    # SQLite's own words name no value and no statement: "database or disk is full". A server's may name its address.
    origin = error.orig if isinstance(error, DBAPIError) else None
    return str(origin) if isinstance(origin, sqlite3.Error) else type(error).__name__


def _parsed(url: str, setting: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(f"{setting} is no database URL; write sqlite:///<path> or postgresql://...") from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None or (driver.startswith("sqlite") and not parsed.database):
        raise Misconfigured(f"{setting} must begin with sqlite:///<path> or postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername=driver)


def _with_password(url: URL, file: Path, setting: str) -> URL:
    named = f"{setting.removesuffix('URL')}PASSWORD_FILE"
    if url.get_backend_name() == "sqlite":
        raise Misconfigured(f"{named} is set, but {setting} names no server: SQLite has no password")
    if url.password or "password" in url.query:
        raise Misconfigured(f"{named} is set, but {setting} holds a password too: leave that out")
    # Its mode is left to whoever makes it: what mounts secrets into containers has modes of its own.
    try:
        password = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Misconfigured(f"{named}: {file} cannot be read ({reason})") from error
    if not password:
        raise Misconfigured(f"{named}: {file} is empty")
    return url.set(password=password)


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": COMMAND_TIMEOUT_S,
                "server_settings": {
                    "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION_S * 1_000)),
                    "lock_timeout": str(round(LOCK_TIMEOUT_S * 1_000)),
                },
            },
        )
    assert url.database is not None
    try:
        Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"the folder of {url.database} cannot be made: {error.strerror}") from error
    path = url.database

    async def connect() -> aiosqlite.Connection:
        return await _SqliteConnection(lambda: _opened(path), iter_chunk_size=64)

    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
        async_creator=connect,
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _opened(path: str) -> sqlite3.Connection:
    """A connection in WAL mode; called in a thread of its own. Raises sqlite3.OperationalError."""
    connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1_000)
    ends = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # A new database is turned to WAL once, and for that SQLite waits for nobody: two may begin at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                connection.close()
                raise
            time.sleep(WAL_PAUSE_S)
        else:
            return connection


class _SqliteConnection(aiosqlite.Connection):
    """Ends its transaction before it closes.

    A task that is cancelled in the middle of a statement leaves a cursor behind, in its traceback. SQLite keeps a
    closed connection, and its write lock, for as long as such a cursor lives: nobody else could write until then.
    """

    async def close(self) -> None:
        """Roll back what is open, then close."""
        if self._connection is not None and self._running:
            with contextlib.suppress(sqlite3.Error):
                await self.rollback()
        await super().close()


def _set_up_sqlite(connection: Any, record: object) -> None:
    # The driver must not begin transactions by itself: its deferred BEGIN fails later, when it meets a writer.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
