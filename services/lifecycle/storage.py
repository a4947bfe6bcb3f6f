"""Lifecycle's transactions: each one that writes locks one row first, so that decisions follow each other.

That is what keeps two lifecycles at once from doubling anything: both may read heartbeats and reconcile, but each
decision is taken on what the other has committed, and a heartbeat applied twice changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database.engine import Database
from adapters.database.migrations import migrate
from services.lifecycle.records import (
    ServiceRecord,
    living_instances,
)
from services.lifecycle.service_change import ServiceChange
from services.lifecycle.tables import platform

MIGRATIONS = Path(__file__).parent / "migrations"


class Storage:
    """The database, and the clock that stamps what is decided in it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock

    async def migrate(self) -> None:
        """Bring the tables to this release. Raises Unavailable or Misconfigured."""
        await migrate(self.database, MIGRATIONS)

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[AsyncSession]:
        """A transaction that no other deciding one runs beside, on this process or another."""
        async with self.database.transaction() as session:
            await self.decide_alone(session)
            yield session

    async def decide_alone(self, session: AsyncSession) -> None:
        """Wait until no other deciding transaction runs, and have none run until this one ends."""
        await session.execute(sa.select(platform.c.id).with_for_update())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction for looking only; unlike `deciding` it wakes nobody."""
        async with self.database.connection() as connection:
            async with AsyncSession(connection, expire_on_commit=False) as session:
                yield session

    async def change(self, session: AsyncSession, record: ServiceRecord) -> ServiceChange:
        """A change of a service that exists, with its living instances."""
        held = await living_instances(session, record.service.service_id)
        return ServiceChange(record, held, now=self.clock.now())
