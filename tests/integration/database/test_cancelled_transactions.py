"""A task that is cancelled in the middle of a transaction leaves no lock behind."""

import asyncio
import random

import sqlalchemy as sa

from adapters.database.engine import Database
from adapters.database.shared_tables import outbox


async def busy(database: Database) -> None:
    while True:
        async with database.transaction() as session:
            await session.execute(outbox.insert().values(topic="hydra.accounts", key="u-1", value=b"x"))
            await session.execute(sa.select(outbox))


async def looking(database: Database) -> None:
    while True:
        async with database.connection() as connection:
            await connection.execute(sa.select(outbox))


async def test_others_can_write_after_tasks_were_cancelled_anywhere(database: Database, database_url: str) -> None:
    dice = random.Random(1)
    for _ in range(20):
        other = Database(database_url)
        tasks = [asyncio.create_task(work(other)) for work in (busy, busy, looking, looking)]
        await asyncio.sleep(dice.uniform(0.02, 0.15))
        for task in tasks:
            task.cancel()
        # The tasks, and with them the tracebacks that hold their cursors, are kept on purpose.
        await asyncio.gather(*tasks, return_exceptions=True)
        async with database.transaction() as session:
            await session.execute(outbox.delete())
        await other.close()
