"""The producer over real Kafka: a fatal error of the client library does not end it."""

from __future__ import annotations

import asyncio

import pytest

from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from schemas.topics import HEARTBEATS


async def test_a_producer_that_lost_its_sequence_is_made_anew(kafka: str) -> None:
    await create_topics(kafka)
    async with EventProducer(kafka, timeout_s=20) as producer:
        await producer.publish(HEARTBEATS, "sequence", b"{}")
        library = producer._producer
        assert library is not None
        numbers = library._txn_manager._sequence_numbers
        for partition in numbers:
            numbers[partition] += 1_000
        with pytest.raises(Unavailable, match="OutOfOrderSequenceNumber"):
            await producer.publish(HEARTBEATS, "sequence", b"{}")
        # The library's sender ends a moment after the message has failed; owners try again anyway.
        async with asyncio.timeout(60):
            while not await published(producer):
                await asyncio.sleep(0.1)
        assert producer._producer is not library


async def published(producer: EventProducer) -> bool:
    try:
        await producer.publish(HEARTBEATS, "sequence", b"{}")
    except Unavailable:
        return False
    return True
