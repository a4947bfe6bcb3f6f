"""What Faust has fetched and throws away while its flow stands still comes again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import faust

from adapters.kafka.partitions import partition_of
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from schemas import codec
from schemas.spend import SpendStated
from schemas.topics import SPEND
from streams.live_spend.faust_app import live_spend_app
from streams.live_spend.settings import LiveSpendSettings
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics
from tests.servers.kafka import running_kafka

HOUR = datetime(2026, 6, 1, 10, tzinfo=UTC)
ACCOUNTS = [f"u-{number:012x}" for number in range(12)]
DEADLINE_S = 120.0
FETCH_S = 5.0
"""Faust's own fetch waits for a second."""


async def state_totals(producer: EventProducer, amount: int) -> None:
    for account in ACCOUNTS:
        stated = SpendStated(account=account, hour=HOUR, totals={"CNY": Decimal(amount)}, covers_offset=amount)
        event = codec.event(stated, id=f"{account}/{amount}", source="/test", subject=account, time=HOUR)
        partition = partition_of(account.encode(), SPEND.partitions)
        await producer.publish(SPEND, f"{account}/{HOUR:%H}", codec.encode(event), partition=partition)


async def until(happened: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not happened():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}") from None


@asynccontextmanager
async def running(bootstrap: str, folder: Path, view: SpendView) -> AsyncIterator[faust.App]:
    async def on_assigned(partitions: frozenset[int]) -> None:
        view.own(partitions)

    app = live_spend_app(bootstrap, folder, LiveSpendSettings(), view, StreamMetrics("live_spend"), on_assigned)
    app.finalize()
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def spent(view: SpendView) -> dict[str, Decimal]:
    held: dict[str, Any] = {}
    for number in view.owned:
        held |= view._partition(number).accounts
    return {account: spend.windows(HOUR).spent_total.get("CNY", Decimal(0)) for account, spend in held.items()}


async def thrown_away(consumer: Any, publish: Callable[[], Any]) -> None:
    """Have Faust fetch what `publish` publishes while its flow stands still, as a rebalance stops it."""
    sought = asyncio.Event()
    seek = consumer.perform_seek

    async def perform_seek() -> None:
        await seek()
        sought.set()

    consumer.perform_seek = perform_seek
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not sought.is_set():
                consumer.stop_flow()
                await publish()
                try:
                    async with asyncio.timeout(FETCH_S):
                        await sought.wait()
                except TimeoutError:
                    pass  # it was between two fetches, and has fetched nothing
                consumer.resume_flow()
    finally:
        consumer.perform_seek = seek


async def test_what_is_thrown_away_comes_again(tmp_path: Path) -> None:
    logging.getLogger("faust").setLevel(logging.ERROR)
    view = SpendView(ZoneInfo("Asia/Shanghai"))
    with running_kafka(tmp_path / "kafka") as kafka:
        bootstrap = kafka.node.bootstrap
        await create_topics(bootstrap)
        async with EventProducer(bootstrap) as producer:
            await state_totals(producer, 1)
            async with running(bootstrap, tmp_path / "faust", view) as app:
                await until(lambda: spent(view) == dict.fromkeys(ACCOUNTS, Decimal(1)), "the first totals are read")
                amount = 1

                async def more() -> None:
                    nonlocal amount
                    amount += 1
                    await state_totals(producer, amount)

                await thrown_away(app.consumer, more)
                await until(lambda: spent(view) == dict.fromkeys(ACCOUNTS, Decimal(amount)), "the last totals are read")
