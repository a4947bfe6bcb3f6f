"""Whole batches over real Kafka: nothing lost, order kept within a partition, a broker that is away told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.errors import Unavailable
from adapters.kafka.partitions import partition_of
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from schemas.topics import HEARTBEATS
from tests.servers.kafka import new_kafka

KEYS = tuple(f"i-{number:012x}" for number in range(7))
BATCH_BYTES = 4_096
READ_WITHIN_S = 60


async def read_all(bootstrap: str, count: int) -> list[tuple[int, str, bytes]]:
    """(partition, key, value) of the topic, in the order of each partition, once it holds `count`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: list[tuple[int, str, bytes]] = []
    try:
        consumer.assign([TopicPartition(HEARTBEATS.name, number) for number in range(HEARTBEATS.partitions)])
        async with asyncio.timeout(READ_WITHIN_S):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(record.partition, record.key.decode(), record.value) for record in records]
    finally:
        await consumer.stop()
    return found


async def test_every_message_arrives_once_in_order_whatever_its_size(tmp_path: Path) -> None:
    server = new_kafka(tmp_path / "kafka")
    server.start()
    try:
        bootstrap = server.node.bootstrap
        await create_topics(bootstrap)
        # Some alone are larger than a batch, and a batch is far smaller than all of them.
        values = [
            str(number).encode() + b"." * (3 * BATCH_BYTES if number % 50 == 0 else 90) for number in range(2_000)
        ]
        async with EventProducer(bootstrap, batch_bytes=BATCH_BYTES) as producer:
            async with producer.whole_batches(HEARTBEATS) as batches:
                for number, value in enumerate(values):
                    batches.add(KEYS[number % len(KEYS)], value)
                    if number % 500 == 0:
                        await asyncio.sleep(0)
        found = await read_all(bootstrap, len(values))
        for position, key in enumerate(KEYS):
            assert [value for _, of, value in found if of == key] == values[position :: len(KEYS)]
        assert {(partition, key) for partition, key, _ in found} == {
            (partition_of(key.encode(), HEARTBEATS.partitions), key) for key in KEYS
        }
    finally:
        server.kill()


async def test_a_failed_block_sends_nothing_more_and_a_broker_that_is_away_is_told(tmp_path: Path) -> None:
    server = new_kafka(tmp_path / "kafka")
    server.start()
    try:
        await create_topics(server.node.bootstrap)
        async with EventProducer(server.node.bootstrap, timeout_s=3, batch_bytes=BATCH_BYTES) as producer:
            with pytest.raises(ZeroDivisionError):
                async with producer.whole_batches(HEARTBEATS) as batches:
                    batches.add("i-000000000001", b"never")
                    raise ZeroDivisionError
            await producer.publish_batch(HEARTBEATS, [("i-000000000001", b"first")])
            assert [value for _, _, value in await read_all(server.node.bootstrap, 1)] == [b"first"]
            server.kill()
            with pytest.raises(Unavailable):
                await producer.publish_batch(HEARTBEATS, [("i-000000000001", b"x" * 3_000)] * 10)
    finally:
        server.kill()
