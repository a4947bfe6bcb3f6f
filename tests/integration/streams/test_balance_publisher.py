"""The publisher of balances against real Kafka: hours that turn, and two workers that both own an account."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters.kafka.producer import EventProducer
from adapters.kafka.state_topic import StateTopic
from adapters.kafka.topics import create_topics
from schemas.spend import BalanceStated, SpendStated
from schemas.topics import BALANCES
from streams.live_spend.balances import BalancePublisher
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics
from tests.servers.billing_way import eventually
from tests.servers.kafka import running_kafka


class MovedClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


class Worker:
    """A publisher with a view that the test fills by hand."""

    def __init__(self, bootstrap: str, clock: MovedClock) -> None:
        self.view = SpendView(ZoneInfo("Asia/Shanghai"))
        self.view.own(frozenset({0}))
        self.view.ends_at({0: 0})
        self._producer = EventProducer(bootstrap)
        self._publisher = BalancePublisher(bootstrap, self.view, self._producer, clock, StreamMetrics("live_spend"))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(part) for part in (self._publisher.follow(), self._publisher.run(0.02))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.stop()

    def state(self, amount: str, covers_offset: int, account: str = "u-0123456789ab") -> None:
        hour = datetime(2026, 11, 20, 12, tzinfo=UTC)
        totals = {"CNY": Decimal(amount)}
        stated = SpendStated(account=account, hour=hour, totals=totals, covers_offset=covers_offset)
        self.view.take(0, covers_offset, stated)


@pytest.fixture
async def bootstrap(tmp_path: Path) -> AsyncIterator[str]:
    with running_kafka(tmp_path) as server:
        await create_topics(server.node.bootstrap)
        yield server.node.bootstrap


@contextlib.asynccontextmanager
async def reading(bootstrap: str) -> AsyncIterator[dict[str, BalanceStated]]:
    """Balances as the gateway sees them."""
    topic = StateTopic(bootstrap, BALANCES, BalanceStated)
    task = asyncio.create_task(topic.run())
    try:
        yield topic.states
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def spent(states: dict[str, BalanceStated], account: str = "u-0123456789ab") -> tuple[Decimal, Decimal] | None:
    balance = states.get(account)
    if balance is None:
        return None
    return balance.spent_hour.get("CNY", Decimal(0)), balance.spent_total.get("CNY", Decimal(0))


async def test_an_hour_that_turns_is_told_without_new_spend(bootstrap: str) -> None:
    clock = MovedClock()
    worker = Worker(bootstrap, clock)
    worker.start()
    async with reading(bootstrap) as states:
        try:
            worker.state("5", 1)
            await eventually(lambda: _equal(spent(states), (5, 5)), "stated")
            clock.time += timedelta(hours=1)
            await eventually(lambda: _equal(spent(states), (0, 5)), "the hour has turned")
            assert states["u-0123456789ab"].version == 2
        finally:
            await worker.stop()


async def test_a_worker_that_lost_its_partition_and_still_writes_is_corrected(bootstrap: str) -> None:
    clock = MovedClock()
    stale, owner = Worker(bootstrap, clock), Worker(bootstrap, clock)
    stale.start()
    owner.start()
    async with reading(bootstrap) as states:
        try:
            stale.state("1", 1)
            owner.state("2", 2)
            await eventually(lambda: _equal(spent(states), (2, 2)), "the owner has spoken")
            await stale.stop()
            await eventually(lambda: _equal(spent(states), (2, 2)), "the owner has the last word")
            # Nothing more comes of the stale one, so what readers hold now is what they keep.
            owner.state("7", 3)
            await eventually(lambda: _equal(spent(states), (7, 7)), "and goes on")
        finally:
            await stale.stop()
            await owner.stop()


async def _equal(seen: object, expected: object) -> bool:
    return seen == expected
