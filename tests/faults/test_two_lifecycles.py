"""Two lifecycle processes over one database, each stopped for so long that the other takes over, and continued: no
service is placed twice, and no state goes back."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain.deployment import INSTANCE_STATE_AFTER, STATUS_AFTER
from schemas.heartbeats import ReadyPeriod
from tests.faults.away import OUTAGE_S
from tests.faults.two_at_once import stopped
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published
from tests.servers.billing_way import eventually
from tests.servers.control_process import ControlProcess, running_control

pytestmark = pytest.mark.timeout(1800)

ROUNDS = int(os.environ.get("HYDRA_FAULTS_RELAY_ROUNDS", "1"))
SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
SERVICES = 6
BUSY_S = 0.5
BEAT_S = 0.5
WRITE_OFF_S = 15


@pytest.fixture
def region() -> str:
    """Kafka is shared: nodes and services of other tests are elsewhere."""
    return f"r-{secrets.token_hex(6)}"


@pytest.fixture
def services(region: str) -> list[str]:
    return [f"m{number}-{region}" for number in range(SERVICES)]


@pytest.fixture
def catalogue(tmp_path: Path, region: str, services: list[str]) -> Path:
    """The folder of a catalogue whose models are all deployed at the first start, on one instance each."""
    model = "hosting: [token], specs: [one-80g], engine: {model_path: org/shared}, description: A model"
    lines = ["specs:", "  one-80g: {gpu: h20, gpus: 1, memory_gb: 80}"]
    lines += ["regions:", f"  {region}: {{name: Test, specs: [one-80g]}}"]
    lines += ["models:", *(f"  {name}: {{name: {name}, {model}}}" for name in services), "shared_at_first_start:"]
    lines += [f"  - {{model: {name}, region: {region}, spec: one-80g, replicas: 1}}" for name in services]
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "catalogue.yaml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def two(shared_database: str, tmp_path: Path, catalogue: Path, kafka: str) -> Iterator[list[ControlProcess]]:
    """The first has the outbox' lease, since it was there alone."""
    asyncio.run(create_topics(kafka))
    settings = {
        "HYDRA_LIFECYCLE_DATABASE_URL": shared_database,
        "HYDRA_CONFIG_DIR": str(catalogue),
        "HYDRA_LIFECYCLE_WRITE_OFF_AFTER_S": str(WRITE_OFF_S),
        "HYDRA_LIFECYCLE_INTERVAL_S": "2",
        "HYDRA_LIFECYCLE_DRAIN_LIMIT_S": "2",
    }
    with ExitStack() as running:
        yield [
            running.enter_context(running_control("lifecycle", tmp_path / "home", kafka, **settings)) for _ in range(2)
        ]


class Fleet:
    """A node whose engines do at once what is wanted of them, but for the dead, of which nothing is heard any more."""

    def __init__(self, agent: ScriptedAgent, published: Published, services: list[str]) -> None:
        self.dead: set[str] = set()
        self._agent = agent
        self._published = published
        self._services = services
        self._began: dict[str, datetime] = {}

    async def run(self) -> None:
        while True:
            mine = [
                placement
                for service in self._services
                for placement in self._published.placements(f"public/{service}").values()
                if placement.wanted != "ended" and placement.instance not in self.dead
            ]
            await self._agent.says_it_lives(*(placement.instance for placement in mine))
            await asyncio.gather(*(self._beat(one.instance, ready=one.wanted == "running") for one in mine))
            await asyncio.sleep(BEAT_S)

    async def _beat(self, instance: str, *, ready: bool) -> None:
        now = datetime.now(UTC)
        began = self._began.setdefault(instance, now)
        seconds = int((now - began).total_seconds())
        period = ReadyPeriod(number=1, began=began, ready_seconds=seconds, closed=not ready)
        await self._agent.says(instance, "ready" if ready else "ended", period, sent=now)


@asynccontextmanager
async def running_fleet(kafka: str, region: str, services: list[str]) -> AsyncIterator[tuple[Fleet, Published]]:
    async with EventProducer(kafka) as producer, Published.following(kafka) as published:
        agent = ScriptedAgent(producer, f"n-{secrets.token_hex(6)}", region, gpus=200)
        fleet = Fleet(agent, published, services)
        beating = asyncio.create_task(fleet.run())
        try:
            yield fleet, published
            assert not beating.done(), beating.exception()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


def new_connections() -> httpx.AsyncClient:
    """A client that keeps none: who stood still finds that its connections were idle for too long, and closes them."""
    return httpx.AsyncClient(timeout=180, limits=httpx.Limits(max_keepalive_connections=0))


class Operator:
    """Commands through either process; every answer is a promise, but for 503: then it asks again."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def scale(self, through: ControlProcess, wanted: dict[str, int]) -> None:
        for name, replicas in wanted.items():
            await self._command(through, f"{name}/scale", {"replicas": str(replicas)})

    async def stop(self, through: ControlProcess, name: str) -> None:
        await self._command(through, f"{name}/stop")

    async def start(self, through: ControlProcess, name: str) -> None:
        await self._command(through, f"{name}/start")

    async def _command(self, through: ControlProcess, what: str, body: dict[str, str] | None = None) -> None:
        """Who stands still may hold the database's lock for a while, and may find its own transaction ended."""
        url = f"{through.url}/v1/services/{what}?account=public"

        async def done() -> bool:
            answer = await self._client.post(url, json=body, headers=through.operator)
            if answer.status_code != 503:
                answer.raise_for_status()
            return answer.is_success

        await eventually(done, what)

    async def shown(self, through: ControlProcess, name: str) -> tuple[str, set[str]] | None:
        """A service's status and its ready instances; None where it is to be asked again later."""
        url = f"{through.url}/v1/services/{name}?account=public"
        answer = await self._client.get(url, headers=through.operator)
        if answer.status_code == 503:
            return None
        shown = answer.raise_for_status().json()
        return shown["status"], {one["id"] for one in shown["instances"] if one["state"] == "ready"}

    async def both_show(self, two: list[ControlProcess], published: Published, name: str, count: int) -> bool:
        """Whether both tell of exactly the instances that placements want running, all of them ready."""
        wanted = "running" if count else "stopped", running(published, name)
        return all([await self.shown(one, name) == wanted for one in two])

    async def both_ready(self, two: list[ControlProcess]) -> None:
        for one in two:

            async def ready(one: ControlProcess = one) -> bool:
                return (await self._client.get(f"{one.url}/health/ready")).status_code == 200

            await eventually(ready, f"{one.url} is ready")


def running(published: Published, service: str) -> set[str]:
    """The instances that placements want running."""
    found = published.placements(f"public/{service}")
    return {name for name, placement in found.items() if placement.wanted == "running"}


class Ledger:
    """How many instances of each service are wanted, and how many were ever to be placed for it."""

    def __init__(self, services: list[str]) -> None:
        self.wanted = dict.fromkeys(services, 1)
        self.placed = dict.fromkeys(services, 1)

    def add(self, *names: str) -> dict[str, int]:
        """One more of each of these; what is wanted of them now."""
        for name in names:
            self.wanted[name] += 1
            self.placed[name] += 1
        return {name: self.wanted[name] for name in names}

    def replace(self, name: str) -> None:
        """All of its instances have died."""
        self.placed[name] += self.wanted[name]

    async def holds(self, published: Published) -> bool:
        return all(len(running(published, name)) == count for name, count in self.wanted.items())


async def test_a_stopped_lifecycle_that_goes_on_later_places_nothing_twice_and_takes_nothing_back(
    two: list[ControlProcess], shared_database: str, kafka: str, region: str, services: list[str]
) -> None:
    chance, ledger = random.Random(SEED), Ledger(services)
    mortal, *growing, paused = services
    async with running_fleet(kafka, region, services) as (fleet, published), new_connections() as client:
        operator = Operator(client)
        for number in range(2 * ROUNDS):
            victim, other = two[number % 2], two[1 - number % 2]
            await eventually(lambda: ledger.holds(published), "every service has its instances")
            more = ledger.add(*growing)
            # At a drawn moment, so that it falls between its steps: what it had in mind is old when it goes on.
            asked = asyncio.create_task(operator.scale(victim, more))
            await asyncio.sleep(chance.uniform(0, BUSY_S))
            async with stopped(victim, shared_database):
                stopped_at = time.monotonic()
                await operator.scale(other, more)
                if ledger.wanted[paused]:
                    await operator.stop(other, paused)
                    ledger.wanted[paused] = 0
                else:
                    await operator.start(other, paused)
                    ledger.add(paused)
                fleet.dead |= running(published, mortal)
                ledger.replace(mortal)
                await eventually(lambda: given_up(fleet, published, mortal), "what died is given up")
                await eventually(lambda: ledger.holds(published), "the other decides alone")
                await asyncio.sleep(max(0.0, stopped_at + OUTAGE_S - time.monotonic()))
            await asked
            await operator.both_ready(two)
            # It decides again, on what the other has decided.
            await operator.scale(victim, ledger.add(mortal))
        await eventually(lambda: ledger.holds(published), "every service has its instances")
        for name, count in ledger.wanted.items():
            await eventually(
                lambda name=name, count=count: operator.both_show(two, published, name, count),
                f"both show what is published of {name}",
            )
        nothing_twice_and_nothing_back(published, ledger.placed)


async def given_up(fleet: Fleet, published: Published, service: str) -> bool:
    """Whether none of its dead is wanted any more."""
    return not running(published, service) & fleet.dead


def nothing_twice_and_nothing_back(published: Published, placed: dict[str, int]) -> None:
    for service, count in placed.items():
        path = f"public/{service}"
        instances = published.placements(path)
        assert len(instances) == count, f"{service} was placed {len(instances)} times, not {count}"
        for name, newest in instances.items():
            assert published.placement_messages(name)[-1].version == newest.version, f"an older {name} lies on top"
            changes = sorted(published.changes(name), key=lambda change: change.sequence)
            assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
            for before, after in pairwise(changes):
                assert after.state in {before.state, *INSTANCE_STATE_AFTER[before.state]}, (name, before, after)
        state = published.deployment(path)
        assert state is not None
        messages = published.deployment_messages(state.service_id)
        assert messages[-1].version == state.version, f"an older {service} lies on top"
        by_version = sorted({message.version: message for message in messages}.items())
        for (_, earlier), (_, later) in pairwise(by_version):
            assert later.status in {earlier.status, *STATUS_AFTER[earlier.status]}, (service, earlier, later)
