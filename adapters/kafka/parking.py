"""Parks messages that cannot be processed, lists them, and publishes them again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from adapters.clock import Clock
from adapters.errors import Rejected, Unavailable
from adapters.kafka.producer import EventProducer
from adapters.kafka.stopping import stop_consumer
from schemas import codec
from schemas.envelope import Event
from schemas.parked import MessageParked, ParkedReplayed
from schemas.topics import PARKED, TOPICS, TYPE_NAMES

KEPT_BYTES_MAX = 1_400_000
"""Of key and value: in base64, with the rest, they fit the 2 MiB that a message of `hydra.parked` may have. A broker
bounds a message by what it is compressed, so a larger one can be met."""
READ_RECORDS = 100
"""Of up to 2 MiB each."""


@dataclass(frozen=True)
class ParkedEntry:
    """One parked message and how often it was published again."""

    id: str
    message: MessageParked
    replays: int = 0


def parked_id(processor: str, topic: str, partition: int, offset: int) -> str:
    return f"{processor}/{topic}/{partition}/{offset}"


class Parker:
    """Publishes `hydra.parked` for one processor. Parking the same record twice is one parking."""

    def __init__(self, processor: str, producer: EventProducer, clock: Clock) -> None:
        self._processor = processor
        self._producer = producer
        self._clock = clock
        self.parked = 0

    async def park(self, record: ConsumerRecord, rejected: Rejected) -> None:
        """Publish the record, whole unless it is too large, with its reason and wait for Kafka; raises Unavailable."""
        id = parked_id(self._processor, record.topic, record.partition, record.offset)
        now = self._clock.now()
        value, key = record.value or b"", record.key
        fits = len(value) + len(key or b"") <= KEPT_BYTES_MAX
        data = MessageParked(
            processor=self._processor,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=rejected.reason,
            detail=rejected.detail,
            parked_at=now,
            value=value if fits else b"",
            key=key if fits else None,
            value_bytes=None if fits else len(value),
        )
        event = codec.event(data, id=id, source=f"/hydra/{self._processor}", subject=id, time=now)
        await self._producer.publish(PARKED, id, codec.encode(event))
        self.parked += 1


async def parked_events(
    bootstrap: str, timeout_s: float = 30.0
) -> AsyncIterator[tuple[str, MessageParked | ParkedReplayed]]:
    """All that `hydra.parked` holds now, oldest first, one at a time: (id of the parking, event).

    What is no such event is passed over. Raises Unavailable where Kafka gives nothing for `timeout_s`.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    partition = TopicPartition(PARKED.name, 0)
    try:
        await asyncio.wait_for(consumer.start(), timeout_s)
        consumer.assign([partition])
        end = (await asyncio.wait_for(consumer.end_offsets([partition]), timeout_s))[partition]
        await asyncio.wait_for(consumer.seek_to_beginning(partition), timeout_s)
        heard = time.monotonic()
        while await asyncio.wait_for(consumer.position(partition), timeout_s) < end:
            records = (await consumer.getmany(timeout_ms=500, max_records=READ_RECORDS)).get(partition, [])
            heard = time.monotonic() if records else heard
            if time.monotonic() - heard > timeout_s:
                raise TimeoutError
            for record in records:
                if (event := _parked_event(record.value or b"")) is not None:
                    yield event
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await stop_consumer(consumer)


def _parked_event(value: bytes) -> tuple[str, MessageParked | ParkedReplayed] | None:
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        head = codec.decode_head(value)
        if head.type == TYPE_NAMES[MessageParked]:
            return head.subject, codec.decode(value, MessageParked).data
        if head.type == TYPE_NAMES[ParkedReplayed]:
            return head.subject, codec.decode(value, ParkedReplayed).data
    return None


async def read_parked(bootstrap: str, timeout_s: float = 30.0) -> list[ParkedEntry]:
    """All parked messages with their contents, oldest first. Raises Unavailable as `parked_events`."""
    return await _entries(parked_events(bootstrap, timeout_s), ParkedEntry)


async def list_parked(bootstrap: str, entries_max: int) -> tuple[list[ParkedEntry], int]:
    """The newest `entries_max` parked messages without their contents, oldest first; and how many there are in all.

    Raises Unavailable as `parked_events`.
    """
    dropped = 0

    def light(id: str, message: MessageParked) -> ParkedEntry:
        return ParkedEntry(id, msgspec.structs.replace(message, value=b"", key=None))

    def bound(entries: dict[str, ParkedEntry]) -> None:
        nonlocal dropped
        while len(entries) > entries_max:
            del entries[next(iter(entries))]
            dropped += 1

    entries = await _entries(parked_events(bootstrap), light, bound)
    return entries, len(entries) + dropped


async def _entries(
    events: AsyncIterator[tuple[str, MessageParked | ParkedReplayed]],
    entry_of: Callable[[str, MessageParked], ParkedEntry],
    bound: Callable[[dict[str, ParkedEntry]], None] = lambda _: None,
) -> list[ParkedEntry]:
    entries: dict[str, ParkedEntry] = {}
    async for id, data in events:
        entry = entries.get(id)
        if isinstance(data, MessageParked):
            if entry is None:
                entries[id] = entry_of(id, data)
                bound(entries)
        elif entry is not None:
            entries[id] = replace(entry, replays=entry.replays + 1)
    return list(entries.values())


async def replay_listed(bootstrap: str, entries: Iterable[ParkedEntry], producer: EventProducer, clock: Clock) -> int:
    """As `replay_parked`, for entries without contents: those are read again, one at a time."""
    wanted = {entry.id: entry for entry in entries}
    count = 0
    async for id, data in parked_events(bootstrap):
        if isinstance(data, MessageParked) and (entry := wanted.pop(id, None)) is not None:
            count += await replay_parked([replace(entry, message=data)], producer, clock)
    return count


async def replay_parked(entries: Iterable[ParkedEntry], producer: EventProducer, clock: Clock) -> int:
    """Publish each message's original bytes to its own topic again and note it; returns how many.

    Ids are derived from content, so a message that had been processed after all changes nothing. One that was too large
    to be kept is passed over.
    """
    topics = {topic.name: topic for topic in TOPICS}
    count = 0
    for entry in entries:
        message = entry.message
        if message.value_bytes is not None:
            continue
        key = (message.key or b"").decode(errors="replace")
        await producer.publish(topics[message.topic], key, bytes(message.value))
        now = clock.now()
        noted = ParkedReplayed(
            processor=message.processor,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            replayed_at=now,
        )
        event = codec.event(
            noted, id=f"{entry.id}@{entry.replays + 1}", source="/hydra/cli", subject=entry.id, time=now
        )
        await producer.publish(PARKED, entry.id, codec.encode(event))
        count += 1
    return count


def decoded(record: ConsumerRecord, data_type: type[codec.Data]) -> Event[codec.Data]:
    """The record's event; raises Rejected, in words that quote nothing of the message, where it cannot be read."""
    if not record.value:
        raise Rejected("undecodable", f"an empty message on {record.topic}")
    try:
        return codec.decode(record.value, data_type)
    except msgspec.ValidationError as error:
        if _other_type(record.value, data_type):
            raise Rejected("unknown_type", f"{record.topic} is not read for events of this type") from error
        # msgspec names the path and the type, and quotes a value only where it is not one of a few words.
        raise Rejected("invalid", re.sub(r"'.*'", "(not quoted)", str(error))[:300]) from error
    except msgspec.DecodeError as error:
        raise Rejected("undecodable", f"not a JSON event: {str(error)[:200]}") from error


def _other_type(value: bytes, data_type: type[msgspec.Struct]) -> bool:
    try:
        return codec.decode_head(value).type != TYPE_NAMES[data_type]
    except msgspec.DecodeError:
        return False
