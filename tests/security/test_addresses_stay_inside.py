"""Kafka goes away: whoever asks a port that customers reach is told so, and never where it was."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from adapters.kafka.topics import create_topics
from tests.servers.child_process import end_with_parent
from tests.servers.control_process import ControlProcess, running_control
from tests.servers.gateway import GatewayPlatform
from tests.servers.kafka import new_kafka
from tests.servers.ports import free_port

TOLD_WITHIN_S = 180
SAID = {"accounts": "does not answer", "lifecycle": "Kafka", "billing": "ClickHouse", "gateway": "Kafka is away"}
"""What each says once it has seen that what it needs is away."""
ASKED = {"accounts": "/v1/accounts", "lifecycle": "/v1/services", "billing": "/v1/prices", "gateway": "/v1/models"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_no_port_that_customers_reach_tells_where_kafka_or_clickhouse_is(
    stack: ExitStack, tmp_path: Path
) -> None:
    kafka = new_kafka(tmp_path / "kafka")
    stack.callback(kafka.kill)
    kafka.start(before_exec=end_with_parent)
    bootstrap = kafka.node.bootstrap
    await create_topics(bootstrap)
    clickhouse = f"127.0.0.1:{free_port()}"
    # Of two, the first relays. Once it is gone the second connects for the first time, and has nowhere to.
    first = stack.enter_context(running_control("accounts", tmp_path / "home", bootstrap))
    control: dict[str, ControlProcess] = {
        "accounts": stack.enter_context(running_control("accounts", tmp_path / "home", bootstrap)),
        "lifecycle": stack.enter_context(running_control("lifecycle", tmp_path / "home", bootstrap)),
        "billing": stack.enter_context(
            running_control(
                "billing", tmp_path / "home", bootstrap, wait_for="live", HYDRA_CLICKHOUSE_URL=f"http://{clickhouse}"
            )
        ),
    }
    platform = GatewayPlatform(tmp_path / "home", bootstrap)
    await platform.start_gateway()
    urls = {name: service.url for name, service in control.items()} | {"gateway": platform.url}
    operator = control["accounts"].operator
    try:
        kafka.kill()
        with httpx.Client(timeout=60, trust_env=False) as client:
            made = client.post(f"{urls['accounts']}/v1/accounts", json={"name": "one"}, headers=operator)
            assert made.status_code == 201, "it waits in the outbox"
            first.process.kill()
            answers = {name: told(client, name, url, operator) for name, url in urls.items()}
    finally:
        await platform.close()
    for name, texts in answers.items():
        for text in texts:
            for address in (bootstrap, bootstrap.split(":")[1], clickhouse, clickhouse.split(":")[1]):
                assert address not in text, f"{name} tells {address}: {text}"


def told(client: httpx.Client, name: str, url: str, operator: dict[str, str]) -> set[str]:
    """All that the service answers on its readiness, and to a caller, until it has said what is away."""
    texts: set[str] = set()
    deadline = time.monotonic() + TOLD_WITHIN_S
    while not any(SAID[name] in text for text in texts):
        assert time.monotonic() < deadline, f"{name} said only {texts}"
        texts.add(client.get(f"{url}/health/ready").text)
        texts.add(client.get(f"{url}{ASKED[name]}", headers=operator).text)
        time.sleep(0.1)
    return texts
