"""Places for running queries: so many at once and no more, the analyst's fewer than all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.clickhouse.errors import TOO_MANY_QUERIES, QueryError
from services.clickhouse.observation import RUNNING
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.users import User


class Places:
    """A query waits for its place up to a bound, then gets 503, which clients retry."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._all = asyncio.Semaphore(settings.concurrent_queries_max)
        # Half of the places at most: analysts never keep the platform's own inserts and reads out.
        analysts = min(settings.analyst_concurrent_queries_max, max(1, settings.concurrent_queries_max // 2))
        self._analysts = asyncio.Semaphore(analysts)
        self._wait_s = settings.queue_wait_s

    @asynccontextmanager
    async def taken(self, user: User) -> AsyncIterator[None]:
        """Raises QueryError 202 (status 503) when no place becomes free in time."""
        semaphores = (self._analysts, self._all) if user.reads_only else (self._all,)
        held: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(self._wait_s):
                    for semaphore in semaphores:
                        await semaphore.acquire()
                        held.append(semaphore)
            except TimeoutError:
                raise QueryError(
                    TOO_MANY_QUERIES, "Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)"
                ) from None
            with RUNNING.labels(user.name).track_inprogress():
                yield
        finally:
            for semaphore in held:
                semaphore.release()
