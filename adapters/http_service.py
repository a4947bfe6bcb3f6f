"""The FastAPI app that the control services share: errors, limits, callers, health, metrics, and serving it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry

from adapters.api_keys import ApiKeys
from adapters.clock_drift import DRIFT
from adapters.errors import Misconfigured
from adapters.http_bounds import READ_TIMEOUT_S, bounded_http
from adapters.http_errors import install_error_answers
from adapters.http_limits import RequestLimits
from adapters.process_metrics import Exposition

BODY_BYTES_MAX = 65_536
CONNECTIONS_MAX = 512
STOP_GRACE_S = 8
BACKGROUND_STOP_S = 5.0

Reason = Callable[[], str]
"""Why the process is not ready, in one short sentence; empty when it is. Must not block."""


def create_app(
    *,
    title: str,
    description: str,
    api_keys: ApiKeys,
    reasons: Sequence[Reason],
    version: str = "1",
    body_bytes_max: int = BODY_BYTES_MAX,
    registry: CollectorRegistry = REGISTRY,
    note: str = "",
) -> FastAPI:
    """An app with all but its business routes. It is ready when keys are caught up and no reason speaks against.

    `note` is what an operator should know of it although nothing is wrong: it stands in the answer on readiness.
    """
    # A redirect to the path without its last slash would lead to whatever host the request names.
    app = FastAPI(title=title, description=description, version=version, redoc_url=None, redirect_slashes=False)
    app.state.api_keys = api_keys
    app.add_middleware(RequestLimits, body_bytes_max=body_bytes_max, registry=registry)
    install_error_answers(app)

    def reason_now() -> str:
        return next((found for ask in (lambda: api_keys.reason, *reasons) if (found := ask())), "")

    exposition = Exposition(registry, lambda: not reason_now())

    @app.get("/health/live", include_in_schema=False)
    async def live() -> JSONResponse:
        return JSONResponse({"status": "live", "reason": ""})

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        reason = reason_now()
        status = "not_ready" if reason else "ready"
        body = {"status": status, "reason": reason} | ({"note": note} if note else {}) | DRIFT.warning()
        return JSONResponse(body, status_code=503 if reason else 200)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)

    return app


async def serve_app(
    app: FastAPI,
    *,
    host: str,
    port: int,
    port_setting: str,
    background: Sequence[Coroutine[Any, Any, None]] = (),
    read_timeout_s: float = READ_TIMEOUT_S,
) -> None:
    """Serve until SIGTERM or SIGINT, with `background` running beside; then finish running requests (8 s) and stop.

    Raises Misconfigured where the port is taken, and whatever a background task raises: none may end by itself.
    """
    try:
        listener = _listening(host, port, port_setting)
    except Misconfigured:
        for coroutine in background:
            coroutine.close()
        raise
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Nothing is decided by where a request came from or what it calls us, so no header may say so.
            proxy_headers=False,
            http=bounded_http(read_timeout_s=read_timeout_s),
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_GRACE_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait(), name="stop")
    beside = [asyncio.create_task(coroutine) for coroutine in background]
    try:
        await asyncio.wait([serving, stopping, *beside], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        for task in beside:
            if task.done():
                task.result()
                raise AssertionError(f"the background task {task.get_name()} ended by itself")
    finally:
        for task in (*beside, stopping, serving):
            task.cancel()
        # Where Kafka is away they may want longer; what they hold is in a database.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACKGROUND_STOP_S):
                await asyncio.gather(*beside, stopping, serving, return_exceptions=True)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process before its background tasks have."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening(host: str, port: int, port_setting: str) -> socket.socket:
    # Named as TCP: only then does uvicorn turn Nagle's algorithm off, which holds each answer back for 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        cause = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise Misconfigured(f"{host}:{port} {cause}; {port_setting} moves it") from error
    return listener
