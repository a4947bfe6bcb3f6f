"""Heartbeats are read again soon after an outage, however many there were before."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.kafka.topics import create_topics
from domain.catalogue import Catalogue
from services.lifecycle.heartbeats import FIRST_PAUSE_S
from services.lifecycle.running import Lifecycle
from services.lifecycle.settings import LifecycleSettings
from tests.servers.child_process import end_with_parent
from tests.servers.kafka import new_kafka


async def test_pauses_are_short_again_once_all_heartbeats_were_read(
    tmp_path: Path, catalogue: Catalogue, settings: LifecycleSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def pauses() -> list[float]:
        return [one.__dict__["pause_s"] for one in caplog.records if one.message == "heartbeats wait"]

    kafka = new_kafka(tmp_path / "kafka")
    database = Database(f"sqlite:///{tmp_path}/lifecycle.db")
    one = Lifecycle(database, SystemClock(), kafka.node.bootstrap, catalogue, settings)
    await one.prepare()
    with caplog.at_level(logging.WARNING, logger="services.lifecycle.heartbeats"):
        reading = asyncio.create_task(one.reader.run())
        try:
            await until(lambda: len(pauses()) >= 3)
            assert pauses()[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
            await asyncio.to_thread(kafka.start, before_exec=end_with_parent)
            await create_topics(kafka.node.bootstrap)
            await until(lambda: one.liveness.certain)
            before = len(pauses())
            await asyncio.to_thread(kafka.kill)
            await until(lambda: len(pauses()) > before)
            assert pauses()[before] == FIRST_PAUSE_S
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await asyncio.to_thread(kafka.kill)
    await database.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(180):
        while not condition():
            await asyncio.sleep(0.05)
