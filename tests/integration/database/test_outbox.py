import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import REGISTRY

from adapters.clock import SystemClock
from adapters.database import outbox
from adapters.database.engine import Database
from adapters.database.outbox import OutboxRelay
from adapters.database.shared_tables import outbox as rows
from adapters.errors import Unavailable
from adapters.kafka.fenced_producer import FencedProducer
from adapters.kafka.topics import create_topics
from schemas.topics import ACCOUNTS, Topic

NAME = "hydra.test.outbox"


class HeldProducer(FencedProducer):
    """A producer whose process is stopped between reading the outbox and sending: until `release` is set."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap, NAME)
        self.holds = asyncio.Event()
        self.release = asyncio.Event()

    async def publish_all(self, messages: list[tuple[Topic, str, bytes | None]]) -> None:
        self.holds.set()
        await self.release.wait()
        await super().publish_all(messages)


class LaterClock(SystemClock):
    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@pytest.fixture
async def bootstrap(kafka: str) -> str:
    await create_topics(kafka)
    return kafka


@asynccontextmanager
async def relaying(relay: OutboxRelay) -> AsyncIterator[OutboxRelay]:
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.wait([task])


def new_key() -> str:
    return f"u-{secrets.token_hex(6)}"


async def put(database: Database, key: str, *values: bytes) -> None:
    async with database.transaction() as session:
        for value in values:
            await outbox.add(session, ACCOUNTS, key, value)


async def published(bootstrap: str, key: str) -> list[bytes]:
    """Every value of `key` on the topic, in its order."""
    partition = TopicPartition(ACCOUNTS.name, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while await consumer.position(partition) < end:
            batches = await consumer.getmany(partition, timeout_ms=500)
            found += [record.value for record in batches.get(partition, []) if record.key == key.encode()]
        return found
    finally:
        await consumer.stop()


async def eventually(holds: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


async def unsent(database: Database) -> int:
    async with database.transaction() as session:
        query = sa.select(sa.func.count()).select_from(rows).where(rows.c.sent_at.is_(None))
        return (await session.execute(query)).scalar_one()


async def all_sent(database: Database) -> bool:
    return await unsent(database) == 0


async def test_a_commit_alone_wakes_the_relay_and_order_holds(database: Database, bootstrap: str) -> None:
    key = new_key()
    async with FencedProducer(bootstrap, NAME) as producer:
        relay = OutboxRelay(database, producer, SystemClock(), batch_max=7, poll_s=3_600)
        async with relaying(relay):
            await asyncio.sleep(0.5)  # it has found nothing and waits
            values = [b"%d" % number for number in range(40)]
            await put(database, key, *values[:25])
            await put(database, key, *values[25:])
            await eventually(lambda: all_sent(database))
    assert await published(bootstrap, key) == values
    assert relay.reason == ""


async def test_what_was_rolled_back_is_never_sent(database: Database, bootstrap: str) -> None:
    key = new_key()
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await outbox.add(session, ACCOUNTS, key, b"never")
            raise RuntimeError
    async with FencedProducer(bootstrap, NAME) as producer, relaying(OutboxRelay(database, producer, SystemClock())):
        await put(database, key, b"sent")
        await eventually(lambda: all_sent(database))
    assert await published(bootstrap, key) == [b"sent"]


async def test_with_kafka_away_everything_is_kept_and_said(
    database: Database, bootstrap: str, unused_port: Callable[[], int]
) -> None:
    key = new_key()
    away = OutboxRelay(database, FencedProducer(f"127.0.0.1:{unused_port()}", NAME, timeout_s=1), SystemClock())
    async with relaying(away):
        await put(database, key, b"1", b"2")

        async def said() -> bool:
            return "Kafka" in away.reason

        await eventually(said)
        assert await unsent(database) == 2
        assert REGISTRY.get_sample_value("hydra_outbox_waiting") == 2
        assert (REGISTRY.get_sample_value("hydra_outbox_oldest_seconds") or 0) > 0
    async with FencedProducer(bootstrap, NAME) as producer, relaying(OutboxRelay(database, producer, SystemClock())):
        await eventually(lambda: all_sent(database))

        async def nothing_waits() -> bool:
            samples = [REGISTRY.get_sample_value(f"hydra_outbox_{name}") for name in ("waiting", "oldest_seconds")]
            return samples == [0, 0]

        await eventually(nothing_waits)
    assert await published(bootstrap, key) == [b"1", b"2"]


async def test_one_relay_publishes_while_a_second_stands_by(database: Database, bootstrap: str) -> None:
    key = new_key()
    async with FencedProducer(bootstrap, NAME) as producer:
        first = OutboxRelay(database, producer, SystemClock(), lease_s=30)
        second = OutboxRelay(database, producer, SystemClock(), lease_s=30)
        await put(database, key, b"1")
        assert await first.relay_batch() == 1
        await put(database, key, b"2")
        assert await second.relay_batch() == 0
        assert await first.relay_batch() == 1
    assert await published(bootstrap, key) == [b"1", b"2"]


async def test_a_relay_that_ends_hands_over_at_once(database: Database, bootstrap: str) -> None:
    key = new_key()
    async with FencedProducer(bootstrap, NAME) as producer:
        async with relaying(OutboxRelay(database, producer, SystemClock(), lease_s=3_600)):
            await put(database, key, b"1")
            await eventually(lambda: all_sent(database))
        await put(database, key, b"2")
        assert await OutboxRelay(database, producer, SystemClock(), lease_s=3_600).relay_batch() == 1
    assert await published(bootstrap, key) == [b"1", b"2"]


async def test_an_older_state_of_a_relay_that_was_stopped_is_refused_by_kafka(
    database: Database, bootstrap: str
) -> None:
    key = new_key()
    zombie_producer = HeldProducer(bootstrap)
    zombie = OutboxRelay(database, zombie_producer, SystemClock(), lease_s=0.5)
    await put(database, key, b"old")
    stopped = asyncio.create_task(zombie.relay_batch())
    await zombie_producer.holds.wait()
    async with FencedProducer(bootstrap, NAME) as producer:
        async with relaying(OutboxRelay(database, producer, SystemClock(), lease_s=0.5)):
            await put(database, key, b"new")
            await eventually(lambda: all_sent(database))
            zombie_producer.release.set()
            with pytest.raises(Unavailable):
                await stopped
            assert await zombie.relay_batch() == 0
            await eventually(lambda: all_sent(database))
    await zombie_producer.stop()
    assert await published(bootstrap, key) == [b"old", b"new"]


async def test_sent_rows_are_deleted_after_a_while_and_positions_are_not_used_again(
    database: Database, bootstrap: str
) -> None:
    key, clock = new_key(), LaterClock()
    async with FencedProducer(bootstrap, NAME) as producer:
        async with relaying(OutboxRelay(database, producer, clock, keep_sent_s=0)):
            await put(database, key, b"1", b"2")
            await eventually(lambda: all_sent(database))
            clock.ahead_s = 100

            async def purged() -> bool:
                async with database.transaction() as session:
                    return (await session.execute(sa.select(sa.func.count()).select_from(rows))).scalar_one() == 0

            await eventually(purged)
    await put(database, key, b"3")
    async with database.transaction() as session:
        assert (await session.execute(sa.select(rows.c.position))).scalar_one() == 3


async def test_a_backlog_of_sent_rows_is_deleted_without_waiting_a_minute_for_each_part(
    database: Database, unused_port: Callable[[], int]
) -> None:
    clock = LaterClock()
    sent_at = clock.now() - timedelta(hours=2)
    async with database.connection() as connection:
        await connection.execute(
            rows.insert(), [{"topic": ACCOUNTS.name, "key": "u-1", "sent_at": sent_at} for _ in range(12_000)]
        )

    async def left() -> int:
        async with database.connection() as connection:
            return (await connection.execute(sa.select(sa.func.count()).select_from(rows))).scalar_one()

    async def none_left() -> bool:
        return await left() == 0

    nothing_to_send = FencedProducer(f"127.0.0.1:{unused_port()}", NAME)
    relay = OutboxRelay(database, nothing_to_send, clock, poll_s=0.05)
    clock.ahead_s = 100
    async with relaying(relay):
        await eventually(none_left, timeout_s=30)


async def test_a_relay_that_stands_by_looks_once_a_poll(
    database: Database, database_url: str, unused_port: Callable[[], int]
) -> None:
    other = Database(database_url)
    transactions: list[object] = []
    sa.event.listen(other.engine.sync_engine, "begin", transactions.append)
    nothing_to_send = FencedProducer(f"127.0.0.1:{unused_port()}", NAME)
    holder = OutboxRelay(database, nothing_to_send, SystemClock(), lease_s=60)
    await holder.relay_batch()
    async with relaying(holder), relaying(OutboxRelay(other, nothing_to_send, SystemClock(), poll_s=0.5, lease_s=60)):
        await asyncio.sleep(2)
    await other.close()
    assert 1 <= len(transactions) <= 8


async def test_a_message_that_can_never_be_sent_is_not_taken(database: Database) -> None:
    with pytest.raises(AssertionError, match="does not fit"):
        await put(database, new_key(), b"x" * ACCOUNTS.max_message_bytes)
    assert await unsent(database) == 0
