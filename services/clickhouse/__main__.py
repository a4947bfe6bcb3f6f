"""`python -m services.clickhouse`: the embedded ClickHouse on HYDRA_HOME/clickhouse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import uvicorn

from adapters import open_files, secret_files
from adapters.clickhouse.reader_limits import AnalystSettings, ReaderLimits
from adapters.errors import EXIT_MISCONFIGURED, Misconfigured
from adapters.http_bounds import bounded_http
from adapters.settings import PlatformSettings
from adapters.telemetry import configure_logging
from services.clickhouse.engine import Engine
from services.clickhouse.server import ClickHouseServer
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.users import Users

log = logging.getLogger("services.clickhouse")

ENGINE_CLOSE_S = 3.0
"""Left to an engine whose last answers took all the time there was to stop."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process before the engine is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(platform: PlatformSettings, settings: ClickHouseSettings, analyst: ReaderLimits) -> None:
    """Serves until SIGTERM or SIGINT. Raises Misconfigured when the folder, a secret or the port cannot be had."""
    users = Users(
        admin_password=secret_files.read(platform.secrets_dir, secret_files.CLICKHOUSE_ADMIN_PASSWORD),
        analyst_password=secret_files.read(platform.secrets_dir, secret_files.ANALYST_PASSWORD),
        billing_password=secret_files.read(platform.secrets_dir, secret_files.BILLING_PASSWORD),
    )
    listener = _listen(settings)
    with contextlib.closing(listener):
        engine = await asyncio.to_thread(Engine, platform.home / "clickhouse", settings)
        application = await asyncio.to_thread(ClickHouseServer, engine, users, settings, analyst)
        server = _Server(
            uvicorn.Config(
                application,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                http=bounded_http(
                    head_bytes_max=settings.head_bytes_max,
                    read_timeout_s=settings.head_time_max_s,
                    # Bodies and answers have bounds of their own (server.py): inserts and results take their time.
                    write_timeout_s=settings.answer_time_max_s,
                    body_has_its_own_bound=True,
                ),
                limit_concurrency=settings.connections_max,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=settings.stop_grace_s,
            )
        )

        ends = float("inf")

        def stop() -> None:
            nonlocal ends
            ends = min(ends, time.monotonic() + settings.stop_grace_s)
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        log.info("serving", extra={"port": settings.port, "version": engine.version})
        await server.serve(sockets=[listener])
        closing = threading.Thread(target=_close, args=(application, engine), daemon=True)
        closing.start()
        left_s = max(ENGINE_CLOSE_S, ends - time.monotonic())
        await asyncio.to_thread(closing.join, min(left_s, settings.stop_grace_s))
    if closing.is_alive():
        log.warning("stopped with queries running")
        # The engine cannot be interrupted, and what it has acknowledged survives its end.
        os._exit(0)
    log.info("stopped")


def _close(application: ClickHouseServer, engine: Engine) -> None:
    application.close()
    engine.close()


def _listen(settings: ClickHouseSettings) -> socket.socket:
    # Named as TCP, or the event loop leaves Nagle's algorithm on and every answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise Misconfigured(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); HYDRA_CLICKHOUSE_PORT moves it"
        ) from error
    return listener


def main() -> int:
    platform = PlatformSettings()
    configure_logging("clickhouse", platform.log_level)
    open_files.raise_limit()
    try:
        asyncio.run(serve(platform, ClickHouseSettings(), AnalystSettings().limits()))
    except Misconfigured as error:
        log.critical("%s", error)
        return EXIT_MISCONFIGURED
    return 0


if __name__ == "__main__":
    sys.exit(main())
