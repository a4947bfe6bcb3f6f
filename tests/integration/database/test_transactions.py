import asyncio
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from adapters.database import engine
from adapters.database.column_types import ExactDecimal, UtcInstant
from adapters.database.engine import Database
from adapters.database.migrations import migrate
from adapters.errors import Misconfigured, Unavailable
from tests.integration.database.conftest import SCRIPTS

things = sa.table("things", sa.column("name"), sa.column("count"))


async def _count(database: Database, name: str) -> int | None:
    async with database.transaction() as session:
        return await session.scalar(sa.select(things.c.count).where(things.c.name == name))


async def test_an_exception_leaves_nothing_behind_and_tells_nobody(database: Database) -> None:
    told: list[str] = []
    database.on_commit(lambda: told.append("commit"))
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await session.execute(things.insert().values(name="a", count=1))
            raise RuntimeError
    assert told == []
    assert await _count(database, "a") is None
    assert told == ["commit"]


async def test_a_transaction_may_tell_nobody(database: Database) -> None:
    told: list[str] = []
    database.on_commit(lambda: told.append("commit"))
    async with database.transaction(wakes=False) as session:
        await session.execute(things.insert().values(name="a", count=1))
    assert told == []
    assert await _count(database, "a") == 1


async def test_writers_that_read_first_do_not_lose_each_others_writes(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(things.insert().values(name="a", count=0))

    async def add_one() -> None:
        async with database.transaction() as session:
            locked = sa.select(things.c.count).where(things.c.name == "a").with_for_update()
            count = (await session.execute(locked)).scalar_one()
            await asyncio.sleep(0)
            await session.execute(things.update().values(count=count + 1))

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert await _count(database, "a") == 20


async def test_migrations_of_two_processes_at_once_run_once(database_url: str) -> None:
    both = [Database(database_url), Database(database_url)]
    await asyncio.gather(*(migrate(database, SCRIPTS) for database in both))
    await migrate(both[0], SCRIPTS)
    async with both[1].transaction() as session:
        assert await session.scalar(sa.text("SELECT count(*) FROM outbox_lease")) == 1
    for database in both:
        await database.close()


def test_a_new_database_may_be_begun_by_two_at_once(tmp_path: Path) -> None:
    # By SQLite's own lock about half of these failed.
    for number in range(40):
        both_there = threading.Barrier(2)

        def begin(path: str = str(tmp_path / f"{number}.db"), barrier: threading.Barrier = both_there) -> None:
            barrier.wait()
            with closing(engine._opened(path)) as opened:
                assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)

        with ThreadPoolExecutor(2) as pool:
            for begun in [pool.submit(begin) for _ in range(2)]:
                begun.result()


async def test_a_database_of_a_later_release_is_refused(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match="revision"):
        await migrate(database, SCRIPTS)


async def test_instants_and_decimals_come_back_as_they_went(database: Database) -> None:
    table = sa.Table(
        "values_kept", sa.MetaData(), sa.Column("at", UtcInstant, primary_key=True), sa.Column("amount", ExactDecimal)
    )
    kept = [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), Decimal("0.000000000001")),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), Decimal("12345678901234567890.123456789012")),
        (datetime(2026, 1, 2, 3, 4, 4, 999999, tzinfo=UTC), None),
    ]
    async with database.connection() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(table.insert(), [{"at": at, "amount": amount} for at, amount in kept])
    async with database.transaction() as session:
        rows = (await session.execute(sa.select(table).order_by(table.c.at))).all()
    assert [tuple(row) for row in rows] == sorted(kept, key=lambda row: row[0])
    assert all(row.at.tzinfo is UTC for row in rows)


async def test_a_server_that_is_away_is_unavailable(unused_port) -> None:
    database = Database(f"postgresql://nobody@127.0.0.1:{unused_port()}/none")
    with pytest.raises(Unavailable):
        async with database.transaction() as session:
            await session.execute(sa.text("SELECT 1"))
    await database.close()


@pytest.mark.parametrize("open_one", [Database.transaction, Database.connection])
async def test_a_server_that_has_no_connection_left_is_unavailable(
    postgresql: str, open_one: Callable[[Database], Any]
) -> None:
    role = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(postgresql)
    await connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    await connection.close()
    database = Database(postgresql.replace("//postgres:@", f"//{role}@"))
    with pytest.raises(Unavailable, match="53300"):
        async with open_one(database) as opened:
            await opened.execute(sa.text("SELECT 1"))
    await database.close()


@pytest.mark.parametrize(
    "state",
    ["08006", "40001", "40P01", "53100", "53300", "57014", "57P03", "58030"],
)
async def test_what_the_server_cannot_do_now_is_unavailable(postgresql: str, state: str) -> None:
    database = Database(postgresql)
    for open_one in (database.transaction, database.connection):
        with pytest.raises(Unavailable, match=state):
            async with open_one() as opened:
                await opened.execute(_raising(state))
    await database.close()


@pytest.mark.parametrize("state", ["22012", "23505", "40002", "42501", "P0001"])
async def test_what_the_server_will_never_do_is_the_callers_error(postgresql: str, state: str) -> None:
    database = Database(postgresql)
    for open_one in (database.transaction, database.connection):
        with pytest.raises(sa.exc.DBAPIError):
            async with open_one() as opened:
                await opened.execute(_raising(state))
    await database.close()


def _raising(state: str) -> sa.TextClause:
    return sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{state}'; END $$")


async def test_of_two_that_wait_for_each_other_one_is_told_to_try_again(postgresql: str) -> None:
    database = Database(postgresql)
    numbers = [secrets.randbits(60) for _ in range(2)]
    both_hold = asyncio.Barrier(2)

    async def take(first: int, second: int) -> None:
        async with database.transaction() as session:
            await session.execute(sa.text(f"SELECT pg_advisory_xact_lock({first})"))
            await both_hold.wait()
            await session.execute(sa.text(f"SELECT pg_advisory_xact_lock({second})"))

    ended = await asyncio.gather(take(*numbers), take(*reversed(numbers)), return_exceptions=True)
    assert [type(one) for one in ended if one is not None] == [Unavailable]
    await database.close()


@pytest.mark.parametrize("open_one", [Database.transaction, Database.connection])
async def test_a_transaction_that_stands_still_holds_nobody_up_for_ever_on_postgresql(
    postgresql: str, monkeypatch: pytest.MonkeyPatch, open_one: Callable[[Database], Any]
) -> None:
    monkeypatch.setattr(engine, "IDLE_IN_TRANSACTION_S", 0.2)
    database = Database(postgresql)
    lock = sa.text(f"SELECT pg_advisory_xact_lock({secrets.randbits(60)})")
    got_it = False
    with pytest.raises(Unavailable):
        async with open_one(database) as standing_still:
            await standing_still.execute(lock)
            async with asyncio.timeout(60), database.transaction() as other:
                await other.execute(lock)
                got_it = True
            await standing_still.execute(sa.text("SELECT 1"))
    assert got_it
    await database.close()


async def test_who_waits_too_long_for_a_lock_is_told_so(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.2)
    database = Database(postgresql)
    lock = sa.text(f"SELECT pg_advisory_xact_lock({secrets.randbits(60)})")
    async with database.transaction() as holder:
        await holder.execute(lock)
        for open_one in (database.transaction, database.connection):
            with pytest.raises(Unavailable, match="lock"):
                async with open_one() as waiting:
                    await waiting.execute(lock)
    await database.close()


async def test_who_stands_still_while_it_prepares_a_statement_holds_nobody_up_for_ever(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not call that idle, and so ends nothing by itself."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(engine, "IDLE_IN_TRANSACTION_S", 0.2)
    number = secrets.randbits(60)
    standing_still = await asyncpg.connect(postgresql)
    await standing_still.execute(f"BEGIN; SELECT pg_advisory_xact_lock({number})")
    await standing_still.prepare("SELECT 1")
    database = Database(postgresql)

    async def gets_it() -> bool:
        try:
            async with database.transaction() as other:
                await other.execute(sa.text(f"SELECT pg_advisory_xact_lock({number})"))
        except Unavailable:
            return False
        return True

    assert not await gets_it()
    async with asyncio.timeout(60):
        while not await gets_it():
            pass
    # However the driver comes to see that it is over.
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
        await standing_still.execute("SELECT 1")
    await database.close()


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", "sqlite://", ""])
def test_a_wrong_url_names_its_setting(url: str) -> None:
    with pytest.raises(Misconfigured, match="HYDRA_ACCOUNTS_DATABASE_URL"):
        Database(url, setting="HYDRA_ACCOUNTS_DATABASE_URL")
