"""adapters/health.py over real HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from adapters.errors import Misconfigured
from adapters.health import HealthServer


class Process:
    """What the server is a window of."""

    def __init__(self) -> None:
        self.readiness = (False, "placements are being read")
        self.registry = CollectorRegistry()
        self.server = HealthServer("127.0.0.1", 0, lambda: self.readiness, registry=self.registry)


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    process = Process()
    await process.server.start()
    yield process
    await process.server.stop()


async def get(process: Process, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{process.server.port}{path}")


async def test_live_whatever_the_readiness(process: Process) -> None:
    answer = await get(process, "/health/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "live")


async def test_ready_follows_the_process(process: Process) -> None:
    before = await get(process, "/health/ready")
    process.readiness = (True, "")
    after = await get(process, "/health/ready")
    assert (before.status_code, before.json()) == (503, {"status": "not_ready", "reason": "placements are being read"})
    assert (after.status_code, after.json()) == (200, {"status": "ready", "reason": ""})


async def test_metrics_are_those_of_the_registry(process: Process) -> None:
    Counter("seen", "What was seen.", registry=process.registry).inc(3)
    assert "seen_total 3.0" in (await get(process, "/metrics")).text


async def test_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HealthServer("127.0.0.1", port, lambda: (True, ""), port_setting="HYDRA_WORKER_PORT")
        with pytest.raises(Misconfigured, match=rf"127\.0\.0\.1:{port} is taken; HYDRA_WORKER_PORT"):
            await server.start()


async def test_stopped_server_leaves_the_port() -> None:
    server = HealthServer("127.0.0.1", 0, lambda: (True, ""))
    await server.start()
    await server.stop()
    socket.create_server(("127.0.0.1", server.port)).close()
