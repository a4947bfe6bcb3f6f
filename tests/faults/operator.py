"""An operator who answers a stop on purpose by the command, where no supervisor runs: as in a container."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from domain.stops import command_to_go_on
from schemas.stops import StopNoted
from schemas.topics import Topic
from tests.servers.billing_way import BillingWay
from tests.servers.platform import ROOT
from tests.servers.stream import StreamProcess

EXIT_STOP_ON_PURPOSE = 78


async def truncate(bootstrap: str, topic: Topic, before: dict[int, int]) -> None:
    """Delete what each partition holds before an offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic.name, n): RecordsToDelete(before_offset=offset) for n, offset in before.items()}
        )
    finally:
        await admin.close()


async def stopped_on_purpose(process: StreamProcess) -> str:
    """Wait until it has ended with 78; returns its last words."""
    assert await asyncio.to_thread(process.wait) == EXIT_STOP_ON_PURPOSE, process.log_file.read_text()[-2000:]
    return process.log_file.read_text().splitlines()[-1]


async def hydra_resume(way: BillingWay, *words: str) -> subprocess.CompletedProcess[str]:
    """`hydra resume WORDS` on a machine without a platform of its own, which is told nothing but Kafka's address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")}
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "cli", "resume", *words],
            cwd=ROOT,
            env=inherited | {"HYDRA_HOME": str(way.folder / "elsewhere"), "HYDRA_KAFKA_BOOTSTRAP": way.bootstrap},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    )


def words_for(stop: StopNoted) -> list[str]:
    """What follows `hydra resume`."""
    return command_to_go_on(stop.process, stop.gaps, stop.reread).split()[2:]
