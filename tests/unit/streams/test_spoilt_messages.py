"""Every field of every message of the money path spoilt: each is refused in words, none is taken or brings us down."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import msgspec
import pytest
from aiokafka import ConsumerRecord

from adapters.errors import Rejected
from adapters.kafka.parking import decoded
from domain.payload_hash import of_charge
from domain.prices import PriceBook
from domain.rating import Unratable, charges_for, charges_id, instance_charges_for
from schemas import codec
from schemas.charges import ChargesRaised
from schemas.instances import InstanceChanged
from schemas.topics import CHARGES, INSTANCES, USAGE, Topic
from schemas.usage import TokensUsed
from services.lifecycle.heartbeat_text import ImpossibleHeartbeat, heartbeat_in
from streams.warehouse.table_rows import TOPICS, Rows
from tests.builders.billing_events import deepseek_prices, hour_price, instance_event, usage_event
from tests.builders.traffic import instance_minutes, requests
from tests.faults.garbage import Garbage, bytes_of_nothing, golden, spoilt

OF_THE_WAREHOUSE = [(topic, event_type) for topic in TOPICS for event_type in topic.events]


def record(topic: Topic, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(topic.name, 0, 7, 0, 1, b"key", value, 0, 3, len(value or b""), ())


def sound(event_type: str) -> bytes:
    """A message that is taken: the golden one, its lines under the hashes that are theirs."""
    if event_type not in CHARGES.events:
        return golden(event_type)
    event = codec.decode(golden(event_type), ChargesRaised)
    lines = tuple(
        msgspec.structs.replace(line, payload_hash=of_charge(line, event.data.source_hash)) for line in event.data.lines
    )
    return codec.encode(msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, lines=lines)))


def all_garbage(event_type: str) -> list[Garbage]:
    return [*spoilt(sound(event_type), random.Random(0), None), *bytes_of_nothing()]


@pytest.mark.parametrize(("topic", "event_type"), OF_THE_WAREHOUSE, ids=[name for _, name in OF_THE_WAREHOUSE])
def test_the_warehouse_parks_it(topic: Topic, event_type: str) -> None:
    Rows().add(record(topic, sound(event_type)))
    for garbage in all_garbage(event_type):
        with pytest.raises(Rejected) as refused:
            Rows().add(record(topic, garbage.value))
            pytest.fail(f"{event_type}: {garbage.what} was taken")
        assert refused.value.reason and refused.value.detail


@pytest.mark.parametrize("topic", [USAGE, INSTANCES], ids=lambda topic: topic.name)
def test_the_raters_park_it(topic: Topic) -> None:
    (event_type,) = topic.events
    rate(topic, sound(event_type))
    for garbage in all_garbage(event_type):
        with pytest.raises((Rejected, Unratable)):
            rate(topic, garbage.value)
            pytest.fail(f"{event_type}: {garbage.what} was rated")


def rate(topic: Topic, value: bytes | None) -> None:
    if topic is USAGE:
        usage = decoded(record(topic, value), TokensUsed)
        charges_for(usage.data, usage, PriceBook())
    else:
        changed = decoded(record(topic, value), InstanceChanged)
        instance_charges_for(changed.data, changed, PriceBook())


@pytest.mark.parametrize("event_type", ["hydra.heartbeats.v1", "hydra.nodes.v1"])
def test_lifecycle_counts_it(event_type: str) -> None:
    heartbeat_in(golden(event_type))
    for garbage in all_garbage(event_type):
        with pytest.raises((msgspec.DecodeError, ImpossibleHeartbeat)):
            heartbeat_in(garbage.value or b"")
            pytest.fail(f"{event_type}: {garbage.what} was taken")


@pytest.mark.parametrize("what", ["amount", "quantity", "unit_price", "price_version", "segment_until"])
def test_a_line_that_says_something_else_than_its_hash_is_parked(what: str) -> None:
    event = codec.decode(sound(CHARGES.events[0]), ChargesRaised)
    line = event.data.lines[0]
    now = getattr(line, what)
    other = msgspec.structs.replace(
        line, **{what: line.segment_until.replace(year=2027) if what == "segment_until" else now + 1}
    )
    changed = msgspec.structs.replace(event.data, lines=(other, *event.data.lines[1:]))
    with pytest.raises(Rejected, match="hash"):
        Rows().add(record(CHARGES, codec.encode(msgspec.structs.replace(event, data=changed))))


def test_what_the_raters_write_is_taken() -> None:
    book = PriceBook()
    for price in [*deepseek_prices(), hour_price("10")]:
        book.record(price)
    raised = [charges_for(data, usage_event(data), book) for data in requests(300)]
    raised += [instance_charges_for(data, instance_event(data), book) for data in instance_minutes(60)]
    taken = Rows()
    for one in raised:
        time = datetime(2026, 11, 1, tzinfo=UTC)
        event = codec.event(one, id=charges_id(one), source="/test", subject=one.account, time=time)
        taken.add(record(CHARGES, codec.encode(event)))
    assert len(taken.charges) == sum(len(one.lines) for one in raised) > 300
