"""Kafka dies for longer than an instance may be silent: nothing is given up, nothing is lost, commands are kept."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain.catalogue import Catalogue
from schemas.heartbeats import ReadyPeriod
from services.lifecycle.running import Lifecycle
from services.lifecycle.settings import LifecycleSettings
from tests.integration.lifecycle.deploying import deploy, placed
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published, eventually
from tests.servers.kafka import running_kafka

WRITE_OFF_AFTER_S = 10.0


async def test_kafkas_absence_gives_up_nothing_and_loses_nothing(
    tmp_path: Path, catalogue: Catalogue, settings: LifecycleSettings, account: str, region: str
) -> None:
    path = f"{account}/test"
    settings = settings.model_copy(update={"write_off_after_s": WRITE_OFF_AFTER_S})
    with running_kafka(tmp_path / "kafka") as server:
        await create_topics(server.node.bootstrap)
        database = Database(f"sqlite:///{tmp_path}/lifecycle.db")
        one = Lifecycle(database, SystemClock(), server.node.bootstrap, catalogue, settings)
        await one.prepare()
        producer = EventProducer(server.node.bootstrap, timeout_s=5)
        agent = ScriptedAgent(producer, "n-0123456789ab", region)
        async with one.publishing(), Published.following(server.node.bootstrap) as published:
            tasks = [asyncio.create_task(part) for part in one.parts()]
            await agent.says_it_lives()
            await deploy(one, account, region)
            (name,) = await placed(published, path)
            began = datetime.now(UTC)
            start_s = int(began.timestamp())
            await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=2))
            await eventually(lambda: published.intervals(name))
            await producer.stop()
            await asyncio.to_thread(server.kill)
            await eventually(lambda: one.reason)
            await deploy(one, account, region, name="meanwhile")
            await asyncio.sleep(WRITE_OFF_AFTER_S * 2)
            await asyncio.to_thread(server.start)
            # The agent has gone on all the time; its first word after the outage covers all of it.
            await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=60))
            await eventually(lambda: published.intervals(name)[-1][1] == start_s + 60)
            await eventually(lambda: published.deployment(f"{account}/meanwhile"))
            assert all(a[1] == b[0] for a, b in pairwise(published.intervals(name)))
            assert {change.state for change in published.changes(name)} == {"placed", "ready"}
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        await database.close()
