"""The node agent's process: `python -m services.worker`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from adapters import secret_files
from adapters.catalogue_text import load_catalogue
from adapters.clock import SystemClock
from adapters.errors import Misconfigured
from adapters.health import HealthServer
from adapters.kafka.producer import EventProducer
from adapters.process import run_process
from adapters.settings import PlatformSettings
from services.worker.agent import Agent
from services.worker.engine_commands import CatalogueCommands
from services.worker.engine_ports import EnginePorts
from services.worker.engine_probe import EngineProbe
from services.worker.heartbeats import HeartbeatSender
from services.worker.metrics import WorkerMetrics
from services.worker.node_folder import NodeFolder
from services.worker.readiness_log import ReadinessLog
from services.worker.settings import WorkerSettings
from services.worker.site import Site

logger = logging.getLogger("services.worker")


async def serve(platform: PlatformSettings) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises Misconfigured."""
    settings = WorkerSettings()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    catalogue = load_catalogue(platform.config_dir)
    if settings.region not in catalogue.regions:
        raise Misconfigured(f"HYDRA_WORKER_REGION: {settings.region!r} is no region of the catalogue")
    cluster_secret = secret_files.read(platform.secrets_dir, secret_files.CLUSTER_SECRET)
    folder = NodeFolder(settings.folder or platform.home / "worker")
    registry, clock = CollectorRegistry(), SystemClock()
    metrics = WorkerMetrics(registry)
    readiness = ReadinessLog(folder.readiness_log, settings.readiness_log_bytes)
    producer = EventProducer(platform.kafka_bootstrap, timeout_s=settings.kafka_timeout_seconds)
    sender = HeartbeatSender(producer, clock, readiness, metrics, every_s=settings.heartbeat_seconds)
    probe = EngineProbe(settings.check_timeout_seconds)

    def site(changed: Callable[[str], None]) -> Site:
        return Site(
            node=folder.identity.node,
            settings=settings,
            clock=clock,
            records=folder.records,
            commands=CatalogueCommands(settings, catalogue),
            ports=EnginePorts(settings.engine_port_first, settings.engine_port_last),
            probe=probe,
            metrics=metrics,
            logs=platform.home / "logs",
            cluster_secret=cluster_secret,
            changed=changed,
        )

    agent = Agent(folder, site, sender, readiness, platform.kafka_bootstrap)
    health = HealthServer(
        settings.host, settings.port, agent.readiness, registry=registry, port_setting="HYDRA_WORKER_PORT"
    )
    await health.start()
    logger.info(
        "node agent started",
        extra={"node": folder.identity.node, "start": folder.identity.start, "engine": settings.engine},
    )
    try:
        await agent.run(stop)
    finally:
        await health.stop()
        await probe.close()
        await producer.stop()
        folder.close()


if __name__ == "__main__":
    sys.exit(run_process("worker", serve))
