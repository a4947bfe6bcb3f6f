"""The real process, killed and frozen while an agent goes on: no engine is given up, each second is billed once."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from adapters import secret_files
from schemas.heartbeats import ReadyPeriod
from tests.integration.lifecycle.deploying import placed
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published, eventually
from tests.servers.child_process import end_with_parent

CATALOGUE = """
specs:
  one-80g: {{gpu: h20, gpus: 1, memory_gb: 80}}
regions:
  {region}: {{name: Test, specs: [one-80g]}}
models:
  shared-model:
    name: Shared-Model
    hosting: [token]
    specs: [one-80g]
    engine: {{model_path: org/shared}}
    description: A model
shared_at_first_start:
  - {{model: shared-model, region: {region}, spec: one-80g, replicas: 1}}
"""


class Process:
    """`python -m services.lifecycle` with a state folder of its own."""

    def __init__(self, environment: dict[str, str], root: Path, log: Path) -> None:
        self._environment = environment
        self._root = root
        self._log = log
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.lifecycle",
                cwd=self._root,
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    async def send(self, number: signal.Signals) -> int | None:
        """Signal it; with KILL or TERM wait for its end and return the exit code."""
        assert self._child is not None
        self._child.send_signal(number)
        return await self._child.wait() if number in (signal.SIGKILL, signal.SIGTERM) else None

    async def end(self) -> None:
        if self._child is not None and self._child.returncode is None:
            await self.send(signal.SIGKILL)


@pytest.fixture
async def process(
    bootstrap: str, tmp_path: Path, region: str, unused_port, project_root: Path
) -> AsyncIterator[tuple[Process, str]]:
    secret_files.make_missing(tmp_path / "home" / "secrets")
    config = tmp_path / "config"
    config.mkdir()
    (config / "catalogue.yaml").write_text(CATALOGUE.format(region=region))
    port = unused_port()
    environment = {
        "HYDRA_HOME": str(tmp_path / "home"),
        "HYDRA_CONFIG_DIR": str(config),
        "HYDRA_KAFKA_BOOTSTRAP": bootstrap,
        "HYDRA_LIFECYCLE_PORT": str(port),
        "HYDRA_LIFECYCLE_INTERVAL_S": "2",
        "HYDRA_LIFECYCLE_WRITE_OFF_AFTER_S": "8",
    }
    one = Process(environment, project_root, tmp_path / "lifecycle.log")
    yield one, f"http://127.0.0.1:{port}"
    await one.end()


@asynccontextmanager
async def beating(agent: ScriptedAgent, instance: str, began: datetime) -> AsyncIterator[list[int]]:
    """An agent whose engine is ready from `began` on; yields the seconds it has proven, which go on to rise."""
    proven = [0]

    async def beat() -> None:
        while True:
            proven[0] = int((datetime.now(UTC) - began).total_seconds())
            await agent.says(instance, "ready", ReadyPeriod(number=1, began=began, ready_seconds=proven[0]))
            await agent.says_it_lives(instance)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(beat())
    try:
        yield proven
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def healthy(url: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(f"{url}/health/ready", timeout=5)).status_code == 200
        except httpx.HTTPError:
            return False


async def test_killed_and_frozen_it_gives_up_nothing_and_bills_every_second_once(
    process: tuple[Process, str], agent: ScriptedAgent, published: Published, region: str
) -> None:
    dice = random.Random(11)
    lifecycle, url = process
    await agent.says_it_lives()
    await lifecycle.start()
    await eventually(lambda: healthy(url))

    def of_this_platform() -> str | None:
        return next((s.service_id for s in published.deployments() if s.region == region), None)

    service_id = await eventually(of_this_platform)
    await agent.says_it_lives()
    (name,) = await placed(published, service_id)
    began = datetime.now(UTC)
    async with beating(agent, name, began) as proven:
        await eventually(lambda: published.intervals(name))
        for _ in range(3):
            await asyncio.sleep(dice.uniform(0.2, 3.0))
            await lifecycle.send(signal.SIGKILL)
            await lifecycle.start()
        await eventually(lambda: healthy(url))
        await lifecycle.send(signal.SIGSTOP)
        await asyncio.sleep(11)  # longer than the silence after which an instance is given up
        await lifecycle.send(signal.SIGCONT)
        await eventually(lambda: healthy(url))
        reached = proven[0]
        await eventually(lambda: published.intervals(name)[-1][1] >= int(began.timestamp()) + reached)
    last = proven[0]
    closed = ReadyPeriod(number=1, began=began, ready_seconds=last, closed=True)
    await agent.says(name, "not_ready", closed)
    start_s = int(began.timestamp())
    await eventually(lambda: published.changes(name)[-1].state == "not_ready")
    assert published.intervals(name)[-1][1] == start_s + last
    intervals = published.intervals(name)
    assert intervals[0][0] == start_s and all(a[1] == b[0] for a, b in pairwise(intervals))
    changes = published.changes(name)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert {change.state for change in changes} == {"placed", "ready", "not_ready"}
    assert await lifecycle.send(signal.SIGTERM) == 0
