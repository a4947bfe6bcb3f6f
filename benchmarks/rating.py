"""Usage events through rating: the pure function alone, and the stream over Kafka, per second and per CPU second."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from benchmarks.cpu import cpu_seconds
from domain import ids
from schemas import codec, topics
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed
from tests.servers.kafka import running_kafka
from tests.servers.stream import running_stream

EVENTS = 50_000
ACCOUNTS = 50
START = datetime(2026, 6, 1, tzinfo=UTC)


def usage(number: int) -> TokensUsed:
    """One answered request of one of the accounts."""
    ended = START + timedelta(milliseconds=number)
    return TokensUsed(
        request_id=ids.request_id(number.to_bytes(16, "big") + bytes(16)),
        account=f"u-{number % ACCOUNTS:012x}",
        key_id="k-000000000001",
        access_path="public/deepseek-r1",
        endpoint="chat.completions",
        streamed=False,
        received=ended,
        ended=ended,
        outcome="completed",
        status=200,
        service_id="s-000000000001",
        model="deepseek-r1",
        region="sh-02",
        billing="token",
        instance="i-000000000001",
        epoch=1,
        prompt_tokens=100 + number % 900,
        completion_tokens=20 + number % 80,
    )


async def _fill(producer: EventProducer) -> None:
    for meter, price in (("input_tokens", "4"), ("output_tokens", "16")):
        recorded = PriceRecorded(
            price_id=f"deepseek-r1/{meter}",
            version=1,
            meter=meter,  # type: ignore[arg-type]  # one of the two literals above
            unit_price=Decimal(price),
            per=1_000_000,
            currency="CNY",
            effective_from=START - timedelta(days=1),
            recorded_at=START - timedelta(days=1),
            source="published",
            model="deepseek-r1",
        )
        id = ids.price_event_id(recorded.price_id, 1)
        event = codec.event(recorded, id=id, source="/bench", subject=recorded.price_id, time=recorded.recorded_at)
        await producer.publish(topics.PRICES, recorded.price_id, codec.encode(event))
    futures = []
    for number in range(EVENTS):
        data = usage(number)
        event_ = codec.event(data, id=data.request_id, source="/bench", subject=data.account, time=data.ended)
        futures.append(await producer.send(topics.USAGE, data.account, codec.encode(event_)))
    await producer.acknowledged(futures)


async def _charged(bootstrap: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topics.CHARGES.name, number) for number in range(topics.CHARGES.partitions)]
        return sum((await consumer.end_offsets(partitions)).values())
    finally:
        await consumer.stop()


async def measure() -> dict[str, float]:
    """Events per second and per CPU second of `token_charges`, reading from and writing to a real broker."""
    with tempfile.TemporaryDirectory() as folder, running_kafka(Path(folder) / "kafka") as kafka:
        bootstrap = kafka.node.bootstrap
        await create_topics(bootstrap)
        async with EventProducer(bootstrap, linger_ms=5) as producer:
            await _fill(producer)
        environment = {"HYDRA_HOME": folder, "HYDRA_KAFKA_BOOTSTRAP": bootstrap}
        broker = kafka.pid
        assert broker is not None
        with running_stream("token_charges", Path(folder), environment) as stream:
            broker_before = cpu_seconds(broker)
            began = time.monotonic()
            while await _charged(bootstrap) < EVENTS:
                await asyncio.sleep(0.1)
            took = time.monotonic() - began
            cpu = cpu_seconds(stream.pid)
            broker_cpu = cpu_seconds(broker) - broker_before
    return {
        "events_per_s": EVENTS / took,
        "events_per_cpu_s": EVENTS / cpu,
        "broker_cpu_us_per_event": broker_cpu * 1e6 / EVENTS,
        "cores": float(os.cpu_count() or 1),
    }
