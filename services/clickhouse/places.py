"""Places for running queries: so many at once and no more, each reader's fewer than all, and so many an hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from adapters.clickhouse.reader_limits import ReaderLimits
from services.clickhouse.errors import QUOTA_EXCEEDED, TOO_MANY_QUERIES, QueryError
from services.clickhouse.observation import RUNNING
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.users import User

_HOUR_S = 3_600


class Places:
    """A query waits for its place up to a bound, then gets 503, which clients retry."""

    def __init__(
        self, settings: ClickHouseSettings, readers: Sequence[ReaderLimits], now: Callable[[], float] = time.time
    ) -> None:
        self._all = asyncio.Semaphore(settings.concurrent_queries_max)
        # Half of the places at most: readers never keep the platform's own inserts out.
        half = max(1, settings.concurrent_queries_max // 2)
        self._of_reader = {one.user: asyncio.Semaphore(min(one.concurrent_queries_max, half)) for one in readers}
        self._quotas = {one.user: _HourlyQuota(one.queries_per_hour_max, now) for one in readers}
        self._wait_s = settings.queue_wait_s

    @asynccontextmanager
    async def taken(self, user: User) -> AsyncIterator[None]:
        """Raises QueryError 202 (status 503) when no place becomes free in time, 201 when the hour's are used up."""
        if user.name in self._quotas:
            self._quotas[user.name].take(user.name)
        semaphores = (self._of_reader[user.name], self._all) if user.name in self._of_reader else (self._all,)
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


class _HourlyQuota:
    """So many queries in an hour of the clock, as a quota of ClickHouse counts them; 0 is no limit."""

    def __init__(self, queries_max: int, now: Callable[[], float]) -> None:
        self._queries_max = queries_max
        self._now = now
        self._hour = 0
        self._taken = 0

    def take(self, user: str) -> None:
        hour = int(self._now()) // _HOUR_S
        if hour != self._hour:
            self._hour, self._taken = hour, 0
        self._taken += 1
        if 0 < self._queries_max < self._taken:
            raise QueryError(
                QUOTA_EXCEEDED,
                f"Quota for user `{user}` for 1 hour has been exceeded: queries = {self._taken}/{self._queries_max}. "
                "(QUOTA_EXCEEDED)",
            )
