"""Lifecycle on real Kafka and a database of its own, SQLite and PostgreSQL, with a scripted agent on the real topic.

Kafka is shared by all tests of a run, so every test has a region of its own: other tests' nodes are elsewhere.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain.catalogue import Catalogue, EngineSpec, Model, Region, Spec
from services.lifecycle.reconciler import AccountClosed, nobody
from services.lifecycle.running import Lifecycle
from services.lifecycle.settings import LifecycleSettings
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published
from tests.servers.databases import empty_database

Starting = Callable[..., AbstractAsyncContextManager[Lifecycle]]


@pytest.fixture
async def bootstrap(kafka: str) -> str:
    await create_topics(kafka)
    return kafka


@pytest.fixture
def region() -> str:
    return f"r-{secrets.token_hex(6)}"


@pytest.fixture
def catalogue(region: str) -> Catalogue:
    return Catalogue(
        models={
            name: Model(
                id=name,
                name=name.title(),
                hosting=frozenset({mode}),
                engine=EngineSpec(model_path=f"org/{name}"),
                specs=("one",),
            )
            for name, mode in (("own-model", "service"), ("shared-model", "token"))
        },
        regions={region: Region(id=region, name=region, specs=("one",))},
        specs={"one": Spec(id="one", gpu="h20", gpus=1, memory_gb=80)},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return await empty_database(request.param, request, tmp_path)


@pytest.fixture
def settings() -> LifecycleSettings:
    """Short times, so that a test sees in seconds what takes a minute; no test asserts how long anything takes."""
    return LifecycleSettings(interval_s=2, write_off_after_s=600, drain_limit_s=2, node_silent_after_s=600)


@pytest.fixture
def lifecycle(
    bootstrap: str, database_url: str, catalogue: Catalogue, settings: LifecycleSettings
) -> Callable[..., AbstractAsyncContextManager[Lifecycle]]:
    """Starts a lifecycle on this test's database; two may run at once, and one after another."""

    @asynccontextmanager
    async def start(
        other: Catalogue | None = None, account_closed: AccountClosed = nobody, **changes: object
    ) -> AsyncIterator[Lifecycle]:
        database = Database(database_url)
        clock = SystemClock()
        changed = settings.model_copy(update=changes)
        one = Lifecycle(database, clock, bootstrap, other or catalogue, changed, account_closed=account_closed)
        await one.prepare()
        async with one.publishing():
            tasks = [asyncio.create_task(part) for part in one.parts()]
            try:
                yield one
            finally:
                ended = [task.exception() for task in tasks if task.done() and not task.cancelled()]
                assert not any(task.done() for task in tasks), f"a part of lifecycle ended by itself: {ended}"
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await database.close()

    return start


@pytest.fixture
async def agent(bootstrap: str, region: str) -> AsyncIterator[ScriptedAgent]:
    async with EventProducer(bootstrap) as producer:
        yield ScriptedAgent(producer, f"n-{secrets.token_hex(6)}", region)


@pytest.fixture
async def published(bootstrap: str) -> AsyncIterator[Published]:
    async with Published.following(bootstrap) as one:
        yield one


@pytest.fixture
def account() -> str:
    return f"u-{secrets.token_hex(6)}"
