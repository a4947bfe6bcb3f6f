"""All current state again, at the start and hourly, so that no topic can stay behind the database for longer."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import sqlalchemy as sa

from adapters.clock import Clock
from adapters.database import outbox
from adapters.database.engine import Database
from adapters.errors import Unavailable
from schemas.topics import ACCOUNTS, API_KEYS
from services.accounts.records import account_of, key_of
from services.accounts.tables import accounts, api_keys

logger = logging.getLogger(__name__)

ROWS_A_TRANSACTION = 200
TOMBSTONE_AFTER = timedelta(days=30)


class Republisher:
    """Puts every account and key into the outbox; a key deleted 30 days ago becomes a tombstone, once."""

    def __init__(self, database: Database, clock: Clock, *, every_s: float) -> None:
        self._database = database
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Republish now and then every `every_s` until cancelled."""
        while True:
            try:
                count = await self.republish()
                logger.info("state published again", extra={"records": count})
                await asyncio.sleep(self._every_s)
            except Unavailable as error:
                logger.warning("state cannot be published again yet", extra={"cause": str(error)})
                await asyncio.sleep(5)

    async def republish(self) -> int:
        """Once, a few rows a transaction; how many. Each row is locked, so that no older state follows a newer one."""
        return await self._accounts() + await self._keys()

    async def _accounts(self) -> int:
        last, count = "", 0
        while True:
            async with self._database.transaction() as session:
                query = sa.select(accounts).where(accounts.c.id > last).order_by(accounts.c.id)
                rows = (await session.execute(query.limit(ROWS_A_TRANSACTION).with_for_update())).all()
                for row in rows:
                    account = account_of(row)
                    await outbox.add(session, ACCOUNTS, account.id, account.event(self._clock.now()))
            count += len(rows)
            if len(rows) < ROWS_A_TRANSACTION:
                return count
            last = rows[-1].id

    async def _keys(self) -> int:
        last, count = "", 0
        while True:
            async with self._database.transaction() as session:
                query = sa.select(api_keys).where(api_keys.c.id > last, api_keys.c.tombstoned.is_(False))
                ordered = query.order_by(api_keys.c.id).limit(ROWS_A_TRANSACTION).with_for_update()
                rows = (await session.execute(ordered)).all()
                for row in rows:
                    key = key_of(row)
                    gone = key.deleted_at is not None and key.deleted_at <= self._clock.now() - TOMBSTONE_AFTER
                    await outbox.add(session, API_KEYS, key.id, None if gone else key.event(self._clock.now()))
                    if gone:
                        await session.execute(api_keys.update().where(api_keys.c.id == key.id).values(tombstoned=True))
            count += len(rows)
            if len(rows) < ROWS_A_TRANSACTION:
                return count
            last = rows[-1].id
