"""Publishes all current state again with its versions, at the start and hourly, and tombstones what ended long ago."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from adapters.database import outbox
from adapters.errors import Unavailable
from schemas.topics import DEPLOYMENTS, PLACEMENTS
from services.lifecycle import events
from services.lifecycle.records import instances_by_name, load_service
from services.lifecycle.storage import Storage
from services.lifecycle.tables import instances, services

logger = logging.getLogger(__name__)

KEEP_ENDS = timedelta(days=30)
SERVICES_A_TRANSACTION = 50


class Republishing:
    """`run` goes on until cancelled."""

    def __init__(self, storage: Storage, *, every_s: float) -> None:
        self._storage = storage
        self._every_s = every_s

    async def run(self) -> None:
        """Publish everything now and every `every_s` seconds; a database that is away is waited for."""
        while True:
            try:
                count = await self.publish_all()
                logger.info("current state is published again", extra={"services": count})
                pause_s = self._every_s
            except Unavailable as error:
                logger.warning("current state waits", extra={"cause": str(error)})
                pause_s = 1.0
            await asyncio.sleep(pause_s)

    async def publish_all(self) -> int:
        """Put the state of every service and placement into the outbox; how many services."""
        async with self._storage.reading() as session:
            query = sa.select(services.c.service_id).where(services.c.tombstoned.is_(False))
            names = list((await session.execute(query.order_by(services.c.service_id))).scalars())
        for first in range(0, len(names), SERVICES_A_TRANSACTION):
            await self._publish(names[first : first + SERVICES_A_TRANSACTION])
        return len(names)

    async def _publish(self, names: Sequence[str]) -> None:
        now = self._storage.clock.now()
        async with self._storage.deciding() as session:
            for name in names:
                record = await load_service(session, name)
                if record is None or record.published is None:
                    continue
                own = (instances.c.service_id == name) & instances.c.tombstoned.is_(False)
                kept = list((await session.execute(sa.select(instances.c.instance).where(own))).scalars())
                for one in await instances_by_name(session, kept):
                    if one.ended_at is not None and one.ended_at < now - KEEP_ENDS:
                        await outbox.add(session, PLACEMENTS, one.instance, None)
                        where = instances.c.instance == one.instance
                        await session.execute(instances.update().where(where).values(tombstoned=True))
                    else:
                        await outbox.add(session, *events.placement(record.service, one, at=now))
                if record.deleted_at is not None and record.deleted_at < now - KEEP_ENDS:
                    await outbox.add(session, DEPLOYMENTS, name, None)
                    await session.execute(
                        services.update().where(services.c.service_id == name).values(tombstoned=True)
                    )
                else:
                    state = events.from_text(record.published)
                    await outbox.add(session, *events.deployment(state, at=now))
