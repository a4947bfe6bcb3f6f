"""With Kafka away: its address is for the operator's log; what is raised may reach a customer by /health/ready."""

import logging
from collections.abc import Callable

import pytest

from adapters.errors import Unavailable
from adapters.kafka.fenced_producer import FencedProducer
from adapters.kafka.producer import EventProducer
from schemas.topics import USAGE


async def test_who_cannot_publish_is_told_without_the_address_and_the_log_has_it_once(
    unused_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    bootstrap = f"127.0.0.1:{unused_port()}"
    producer = EventProducer(bootstrap, timeout_s=1)
    with caplog.at_level(logging.WARNING, logger="adapters.kafka.producer"):
        for _ in range(3):
            with pytest.raises(Unavailable, match=r"^Kafka does not answer: ") as caught:
                await producer.publish(USAGE, "u-0123456789ab", b"{}")
            assert bootstrap not in str(caught.value) and "127.0.0.1" not in str(caught.value)
    told = [record.__dict__["bootstrap"] for record in caplog.records if record.name == "adapters.kafka.producer"]
    assert told == [bootstrap], "once, until it has answered"


async def test_the_outboxs_producer_tells_no_address_either(unused_port: Callable[[], int]) -> None:
    bootstrap = f"127.0.0.1:{unused_port()}"
    with pytest.raises(Unavailable) as caught:
        await FencedProducer(bootstrap, "hydra.test.outbox", timeout_s=1).fence()
    assert "127.0.0.1" not in str(caught.value)
