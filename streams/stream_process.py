"""The process around a stream: settings, logs, health, signals, exit code. No stream knows of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import uvloop
from pydantic import ValidationError

from adapters import open_files
from adapters.clock import move_as_told
from adapters.errors import EXIT_MISCONFIGURED, EXIT_STOP_ON_PURPOSE, Misconfigured, StopOnPurpose, Unavailable
from adapters.health import HealthServer
from adapters.kafka.stops import stopped
from adapters.settings import PlatformSettings
from adapters.telemetry import configure_logging
from streams.metrics import StreamMetrics
from streams.quiet_logs import quiet_libraries
from streams.settings import StreamSettings

EXIT_BUG = 70
EXIT_TRY_AGAIN = 75
"""A dependency took the process down: whoever supervises it starts it again."""
STOP_TIMEOUT_S = 10.0
GARBAGE_AFTER_OBJECTS = 50_000
"""New objects before the collector looks for cycles. A batch makes that many and no cycle; at its default of 700 the
collector walked every batch some hundred times."""
LAG_TIMEOUT_S = 5.0
AWAY_PAUSE_S = 0.5

logger = logging.getLogger("streams")

Settings = TypeVar("Settings", bound=StreamSettings)


class Stream(Protocol):
    """What runs until it is cancelled. `run` raises StopOnPurpose or Misconfigured to end the process."""

    metrics: StreamMetrics

    def readiness(self) -> tuple[bool, str]: ...

    def note(self) -> str:
        """What an operator is to know while it is ready as well; mostly nothing."""
        ...

    async def run(self) -> None: ...

    async def lag(self) -> int: ...


def run_stream(
    process: str,
    settings_type: Callable[[], Settings],
    build: Callable[[PlatformSettings, Settings], Stream],
) -> int:
    """Run one stream as this process and return its exit code. Raises nothing."""
    try:
        platform, settings = PlatformSettings(), settings_type()
    except ValidationError as error:
        prefix = "HYDRA" if error.title == PlatformSettings.__name__ else f"HYDRA_{process.upper()}"
        for wrong in error.errors():
            print(f"{prefix}_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    configure_logging(process, platform.log_level)
    open_files.raise_limit()
    move_as_told(platform.clock_offsets, process)
    quiet_libraries()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER_OBJECTS)
    try:
        uvloop.run(_serve(process, settings, build(platform, settings)))
    except StopOnPurpose as reason:
        logger.critical("stopped on purpose: %s", stopped(platform.kafka_bootstrap, process, reason))
        return EXIT_STOP_ON_PURPOSE
    except Misconfigured as reason:
        logger.critical("cannot start: %s", reason)
        return EXIT_MISCONFIGURED
    except Unavailable as reason:
        logger.critical("to be started again: %s", reason)
        return EXIT_TRY_AGAIN
    except Exception:
        logger.critical("a failure of our own", exc_info=True)
        return EXIT_BUG
    return 0


async def _serve(process: str, settings: StreamSettings, stream: Stream) -> None:
    stop = asyncio.Event()
    watch = _LagWatch(stream, settings.lag_every_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = HealthServer(
        settings.host,
        settings.port,
        watch.readiness,
        note=stream.note,
        registry=stream.metrics.registry,
        port_setting=f"HYDRA_{process.upper()}_PORT",
    )
    await health.start()
    logger.info("started", extra={"port": health.port})
    tasks = [
        asyncio.create_task(stream.run(), name=process),
        asyncio.create_task(watch.run(), name="lag"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _ended(tasks)
        await health.stop()
        logger.info("stopped")


class _LagWatch:
    """Asks for the lag, which only an answering Kafka can tell: so it is what shows that Kafka is away."""

    def __init__(self, stream: Stream, every_s: float) -> None:
        self._stream = stream
        self._every_s = every_s
        self._away = ""
        self._answered = False

    def readiness(self) -> tuple[bool, str]:
        ready, reason = self._stream.readiness()
        return (False, self._away) if ready and self._away else (ready, reason)

    async def run(self) -> None:
        while True:
            away = ""
            try:
                async with asyncio.timeout(LAG_TIMEOUT_S):
                    self._stream.metrics.lag.set(await self._stream.lag())
            except Unavailable as error:
                away = str(error)
            except TimeoutError:
                away = f"Kafka did not answer within {LAG_TIMEOUT_S:g} s"
            if away and not self._away and self._answered:
                logger.warning(away)
            elif self._away and not away and self._answered:
                logger.info("Kafka answers again")
            self._answered = self._answered or not away
            self._away = away
            await asyncio.sleep(min(AWAY_PAUSE_S, self._every_s) if away else self._every_s)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await asyncio.gather(*tasks, return_exceptions=True)


async def run_together(*parts: Awaitable[None]) -> None:
    """Run all until one ends or raises; the others are cancelled, and its exception is raised as it is."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
