"""State topics over real Kafka: the highest version per key, also after repeats, reordering and tombstones."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from adapters.clock import SystemClock
from adapters.errors import Misconfigured, Rejected
from adapters.kafka.batches import BatchConsumer
from adapters.kafka.parking import Parker, decoded, list_parked, read_parked, replay_listed
from adapters.kafka.producer import EventProducer
from adapters.kafka.state_topic import StateTopic
from adapters.kafka.topics import create_topics
from schemas import codec
from schemas.accounts import AccountState
from schemas.topics import ACCOUNTS, PARKED, USAGE
from schemas.usage import TokensUsed

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def account(id: str, version: int, name: str) -> bytes:
    state = AccountState(account=id, version=version, name=name, status="active", created=CREATED, currency="CNY")
    return codec.encode(codec.event(state, id=f"{id}@{version}", source="/test", subject=id, time=CREATED))


@pytest.fixture
async def topics(kafka: str) -> AsyncIterator[str]:
    await create_topics(kafka)
    yield kafka


async def test_creating_topics_again_changes_nothing(kafka: str) -> None:
    await create_topics(kafka)
    assert await create_topics(kafka) == []


async def test_the_highest_version_wins_and_a_tombstone_removes(topics: str) -> None:
    # The topic is shared with other tests of the run: only these two keys are looked at.
    one, two = (f"u-{uuid.uuid4().hex[:12]}" for _ in range(2))
    changes: list[tuple[str, str | None]] = []

    def note(key: str, value: AccountState | None) -> None:
        if key in (one, two):
            changes.append((key, value.name if value else None))

    state = StateTopic(topics, ACCOUNTS, AccountState, note)
    async with EventProducer(topics) as producer:
        await producer.publish(ACCOUNTS, one, account(one, 2, "two"))
        await producer.publish(ACCOUNTS, one, account(one, 1, "one, late"))
        await producer.publish(ACCOUNTS, one, b"not json")
        await producer.publish(ACCOUNTS, two, account(two, 1, "gone"))
        await producer.publish(ACCOUNTS, two, None)
        task = asyncio.create_task(state.run())
        await asyncio.wait_for(state.caught_up.wait(), 60)
        assert {key: value.name for key, value in state.states.items() if key in (one, two)} == {one: "two"}
        assert state.bad_records >= 1
        await producer.publish(ACCOUNTS, one, account(one, 3, "three"))
        await state.catch_up()
    assert state.states[one].name == "three"
    assert changes == [(one, "two"), (two, "gone"), (two, None), (one, "three")]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_poison_message_is_parked_with_its_reason_and_can_be_replayed(topics: str) -> None:
    parked_now = asyncio.Event()
    async with EventProducer(topics) as producer:
        parker = Parker("test-parking", producer, SystemClock())

        async def process(records: object) -> None:
            for record in records:  # type: ignore[attr-defined]
                try:
                    decoded(record, TokensUsed)
                except Rejected as rejected:
                    await parker.park(record, rejected)
                    parked_now.set()

        async def never_written(topic: str, partition: int) -> bool:
            return False

        consumer = BatchConsumer(topics, "test-parking", [USAGE], process, never_written)
        task = asyncio.create_task(consumer.run())
        await producer.publish(USAGE, "u-poison", b'{"half": ')
        for garbage in (None, b"", b"no parked message", b"[" * 5_000):
            await producer.publish(PARKED, "garbage", garbage)
        await asyncio.wait_for(parked_now.wait(), 60)
        mine = [e for e in await read_parked(topics) if e.message.processor == "test-parking"]
        entry = next(e for e in mine if bytes(e.message.value) == b'{"half": ')
        assert entry.message.reason == "undecodable"
        assert entry.message.key == b"u-poison"
        assert entry.replays == 0

        (listed,), held = await list_parked(topics, entries_max=1)
        assert (listed.id, listed.message.value, held >= 1) == (entry.id, b"", True)
        assert (await list_parked(topics, entries_max=held))[1] == held
        # Listed without its contents, which are read again where it is published again.
        assert await replay_listed(topics, [listed], producer, SystemClock()) == 1
        async with asyncio.timeout(60):
            while parker.parked < 2:
                await asyncio.sleep(0.05)
        again = [e for e in await read_parked(topics) if e.id == entry.id]
        assert [e.replays for e in again] == [1]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_topic_with_other_partitions_is_refused(kafka: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

    from schemas.topics import BALANCES

    await create_topics(kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_partitions({BALANCES.name: NewPartitions(3)})
    try:
        with pytest.raises(Misconfigured, match=r"hydra\.balances has 3 partitions"):
            await create_topics(kafka)
    finally:
        await admin.delete_topics([BALANCES.name])
        await admin.close()
