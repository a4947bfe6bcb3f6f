"""A follower that has read on begins its next outage with the shortest pause again."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import pytest
from aiokafka import ConsumerRecord

from adapters.kafka.follower import FIRST_PAUSE_S, TopicFollower
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from schemas.topics import PRICES


async def test_pauses_are_short_again_once_everything_was_read(kafka: str, caplog: pytest.LogCaptureFixture) -> None:
    await create_topics(kafka)
    ours = uuid.uuid4().hex
    failures, read = 3, 0

    def take(record: ConsumerRecord) -> None:
        nonlocal failures, read
        if record.key != ours.encode():
            return
        if failures:
            failures -= 1
            raise ConnectionError("as Kafka's own errors come")
        read += 1

    def pauses() -> list[float]:
        return [one.__dict__["pause_s"] for one in caplog.records if one.message == "topic cannot be read"]

    follower = TopicFollower(kafka, PRICES, take)
    async with EventProducer(kafka) as producer:
        await producer.publish(PRICES, ours, b"{}")
        with caplog.at_level(logging.WARNING, logger="adapters.kafka.follower"):
            following = asyncio.create_task(follower.run())
            try:
                await until(lambda: read == 1)
                await asyncio.wait_for(follower.caught_up.wait(), 60)
                failures = 1
                await producer.publish(PRICES, ours, b"{}")
                await until(lambda: read == 2)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    assert pauses() == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, FIRST_PAUSE_S]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.02)
