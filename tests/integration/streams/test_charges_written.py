"""Whether a rater has written before: found in a log that takes longer to read than one attempt may."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from adapters.errors import Unavailable
from adapters.kafka.partitions import partition_of
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain.prices import PriceBook
from domain.rating import charges_for, charges_id
from schemas import codec
from schemas.charges import ChargesRaised
from schemas.topics import CHARGES, USAGE
from streams.charges_written import ChargesWritten
from tests.builders.billing_events import deepseek_prices, usage, usage_event
from tests.servers.kafka import running_kafka

CHARGED = 5_000


def usage_partition(raised: ChargesRaised) -> int:
    return partition_of(raised.account.encode(), USAGE.partitions)


def slow_partition(raised: ChargesRaised) -> int:
    """As if the log were a thousand times as long: what one fetch brings takes longer than an attempt may."""
    time.sleep(0.001)
    return usage_partition(raised)


async def write_charges(bootstrap: str) -> int:
    """Charges of one account; returns the partition of usage that they came from."""
    book = PriceBook()
    for price in deepseek_prices():
        book.record(price)
    messages = []
    for number in range(CHARGED):
        event = usage_event(usage(number))
        raised = charges_for(event.data, event, book)
        message = codec.event(
            raised, id=charges_id(raised), source="/test", subject=raised.account, time=event.data.ended
        )
        messages.append((CHARGES, raised.account, codec.encode(message)))
    async with EventProducer(bootstrap) as producer:
        await producer.publish_all(list(messages))
    return usage_partition(raised)


async def test_a_search_that_runs_out_of_time_goes_on_where_it_stood_and_says_how_far(tmp_path: Path) -> None:
    with running_kafka(tmp_path / "kafka") as kafka:
        bootstrap = kafka.node.bootstrap
        await create_topics(bootstrap)
        charged = await write_charges(bootstrap)
        unread = (charged + 1) % USAGE.partitions
        search = ChargesWritten(bootstrap, "usage", slow_partition, timeout_s=1.0)
        told = []
        for _ in range(50):
            try:
                assert not await search(USAGE.name, unread)
                break
            except Unavailable as error:
                told.append(str(error))
        else:
            pytest.fail(f"it never comes to the end: {told[-3:]}")
        assert any("is searched" in text for text in told)
        counts = [int(text.split(" of ")[0].rpartition(" ")[2]) for text in told if "is searched" in text]
        assert counts == sorted(counts)
        assert all(text.endswith(f" of {CHARGED} messages") for text in told if "is searched" in text)
        assert await search(USAGE.name, charged)
        instances = ChargesWritten(bootstrap, "instance", usage_partition)
        assert not await instances(USAGE.name, charged)
