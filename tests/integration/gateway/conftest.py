"""A gateway, simulated engines and state topics, all real processes, on the run's own Kafka."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.servers.gateway import GatewayPlatform


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> AsyncIterator[GatewayPlatform]:
    """A gateway that runs already, for tests that let it live; each has customers and services of its own."""
    made = GatewayPlatform(tmp_path_factory.mktemp("gateway"), kafka)
    await made.prepare()
    try:
        await made.start_gateway()
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture
async def platform(tmp_path: Path, kafka: str) -> AsyncIterator[GatewayPlatform]:
    made = GatewayPlatform(tmp_path, kafka)
    await made.prepare()
    try:
        yield made
    finally:
        await made.close()
