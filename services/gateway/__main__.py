"""Starts the gateway: settings, wiring, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import sys
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from adapters import open_files, secret_files
from adapters.errors import Misconfigured, Unavailable
from adapters.kafka.producer import EventProducer
from adapters.process import run_process
from adapters.settings import PlatformSettings
from adapters.tracing import traces_of
from services.gateway import spool_files
from services.gateway.admission import Admission
from services.gateway.adoption import Adoption
from services.gateway.open_files import within_limit
from services.gateway.publisher import Publisher
from services.gateway.routing import Routes
from services.gateway.server import Gateway
from services.gateway.settings import GatewaySettings
from services.gateway.spans import RequestSpans
from services.gateway.spool import Spool
from services.gateway.state import PlatformState
from services.gateway.upstream_pool import UpstreamPool

logger = logging.getLogger(__name__)

PUBLISH_AT_END_S = 5.0
FOLDER_WAIT_S = 15.0
"""More than a neighbour takes to publish a batch of what was left behind."""
FOLDER_POLL_S = 0.1


async def serve(platform: PlatformSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises Misconfigured where the name or the port is taken, or
    hardly a file may be opened."""
    settings = within_limit(GatewaySettings(), open_files.limit())
    gateway_id = settings.id or f"g-{secrets.token_hex(6)}"
    root = settings.spool_root or platform.home / "gateway" / "spools"
    folder = root / gateway_id
    lock = await own_folder(folder)
    leftovers = _own_leftovers(folder)
    gateway, state = _wired(platform, settings, gateway_id, root)
    producer = EventProducer(platform.kafka_bootstrap, timeout_s=10.0)
    gateway.metrics.traces = traces = traces_of("gateway")
    publisher = Publisher(
        gateway.spool,
        producer,
        gateway.metrics,
        bytes_max=settings.publish_bytes_max,
        spans=RequestSpans(traces) if traces else None,
    )
    adoption = Adoption(
        root,
        folder,
        producer,
        gateway.metrics,
        interval_s=settings.adoption_interval_s,
        batch_max=settings.publish_batch_max,
    )
    state.load_snapshot()
    stop = _stop_asked_for(gateway.loop)
    # What is there now stays: without this every full collection walks LiteLLM's million objects again.
    gc.collect()
    gc.freeze()
    port = await _listen(gateway, settings)
    logger.info("gateway listens", extra={"port": port, "gateway": gateway_id})
    works = (state.follow(), publisher.run(), adoption.run(leftovers), gateway.sweep_for_ever())
    ended = await _work_until(stop, gateway, works)
    await _publish_rest(publisher, producer)
    if traces is not None:
        await asyncio.to_thread(traces.close)
    if gateway.spool.close() and not spool_files.segments(folder):
        lock.remove_folder()
    lock.release()
    for task in ended:
        task.result()


async def own_folder(folder: Path, wait_s: float = FOLDER_WAIT_S) -> spool_files.FolderLock:
    """The spool's folder, made and locked. Raises Misconfigured where another holds it for longer than `wait_s`: a
    neighbour that publishes what we left behind lets go of it, another gateway of our name does not."""
    lock = spool_files.FolderLock(folder)
    ends = time.monotonic() + wait_s
    while True:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        if lock.take():
            return lock
        if time.monotonic() > ends:
            raise Misconfigured(f"another gateway runs under the name {folder.name}; set HYDRA_GATEWAY_ID")
        await asyncio.sleep(FOLDER_POLL_S)


def _wired(
    platform: PlatformSettings, settings: GatewaySettings, gateway_id: str, root: Path
) -> tuple[Gateway, PlatformState]:
    """The gateway's parts, put together; nothing runs yet."""
    loop = asyncio.get_running_loop()
    pool = UpstreamPool(
        loop,
        size=settings.pool_size_per_instance,
        idle_s=settings.pool_idle_s,
        connect_timeout_s=settings.connect_timeout_s,
    )
    cluster_secret = secret_files.read(platform.secrets_dir, secret_files.CLUSTER_SECRET)
    routes = Routes(pool, cluster_secret, cooldown_s=settings.cooldown_s)
    admission = Admission()
    state = PlatformState(
        platform.kafka_bootstrap,
        admission,
        routes,
        root.parent / "snapshot.json",
        snapshot_interval_s=settings.snapshot_interval_s,
        kafka_wait_s=settings.kafka_wait_s,
    )
    spool = Spool(
        root / gateway_id,
        loop,
        bytes_max=settings.spool_bytes_max,
        segment_bytes=settings.spool_segment_bytes,
        sync=settings.spool_sync,
    )
    gateway = Gateway(
        gateway_id, settings, loop, admission=admission, routes=routes, pool=pool, spool=spool, state=state
    )
    return gateway, state


def _own_leftovers(folder: Path) -> list[Path]:
    """Segments of an earlier run under this gateway's name, the last one without what its crash has torn."""
    leftovers = spool_files.segments(folder)
    with suppress(OSError):  # a disk that fails is told of by whoever adopts them
        if leftovers and (cut := spool_files.cut_torn_end(leftovers[-1])):
            logger.info("a torn end was cut", extra={"file": leftovers[-1].name, "bytes": cut})
    return leftovers


def _stop_asked_for(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _work_until(
    stop: asyncio.Event, gateway: Gateway, works: Iterable[Coroutine[Any, Any, None]]
) -> set[asyncio.Task[None]]:
    """Run the gateway's works until a stop is asked for or one of them ends, then drain; returns what ended first."""
    tasks = [gateway.loop.create_task(work) for work in works]
    stopping = gateway.loop.create_task(stop.wait())
    done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    await gateway.drain()
    for task in (*tasks, stopping):
        task.cancel()
    await asyncio.gather(*tasks, stopping, return_exceptions=True)
    return {task for task in tasks if task in done}


async def _listen(gateway: Gateway, settings: GatewaySettings) -> int:
    try:
        return await gateway.serve()
    except OSError as error:
        raise Misconfigured(
            f"the gateway cannot listen on {settings.host}:{settings.port} ({error.strerror}); set HYDRA_GATEWAY_PORT"
        ) from error


async def _publish_rest(publisher: Publisher, producer: EventProducer) -> None:
    """What cannot be published now stays in the spool, for whoever adopts it."""
    with suppress(Unavailable, TimeoutError):
        async with asyncio.timeout(PUBLISH_AT_END_S):
            while await publisher.publish_some():
                pass
    await producer.stop()


def main() -> int:
    """Exit code 0 after a drain, 1 where the gateway cannot start."""
    return run_process("gateway", serve, uvloop.run)


if __name__ == "__main__":
    sys.exit(main())
