"""Parks messages that cannot be processed, lists them, and publishes them again."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
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
        """Publish the whole record with its reason and wait for Kafka; raises Unavailable."""
        id = parked_id(self._processor, record.topic, record.partition, record.offset)
        now = self._clock.now()
        data = MessageParked(
            processor=self._processor,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=rejected.reason,
            detail=rejected.detail,
            parked_at=now,
            value=record.value or b"",
            key=record.key,
        )
        event = codec.event(data, id=id, source=f"/hydra/{self._processor}", subject=id, time=now)
        await self._producer.publish(PARKED, id, codec.encode(event))
        self.parked += 1


async def read_parked(bootstrap: str, timeout_s: float = 30.0) -> list[ParkedEntry]:
    """All parked messages, oldest first; what is on the topic and is no parked message is passed over.

    Raises Unavailable where Kafka gives nothing for `timeout_s`.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    partition = TopicPartition(PARKED.name, 0)
    entries: dict[str, ParkedEntry] = {}
    try:
        async with asyncio.timeout(timeout_s) as limit:
            await consumer.start()
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    limit.reschedule(asyncio.get_running_loop().time() + timeout_s)
                    for record in records:
                        with contextlib.suppress(msgspec.DecodeError, RecursionError):
                            _take(entries, record.value or b"")
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await stop_consumer(consumer)
    return list(entries.values())


def _take(entries: dict[str, ParkedEntry], value: bytes) -> None:
    head = codec.decode_head(value)
    if head.type == "hydra.parked.v1":
        message = codec.decode(value, MessageParked).data
        entries.setdefault(head.subject, ParkedEntry(head.subject, message))
    elif head.type == "hydra.parked-replayed.v1" and head.subject in entries:
        entry = entries[head.subject]
        entries[head.subject] = replace(entry, replays=entry.replays + 1)


async def replay_parked(entries: Iterable[ParkedEntry], producer: EventProducer, clock: Clock) -> int:
    """Publish each message's original bytes to its own topic again and note it; returns how many.

    Ids are derived from content, so a message that had been processed after all changes nothing.
    """
    topics = {topic.name: topic for topic in TOPICS}
    count = 0
    for entry in entries:
        message = entry.message
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
