"""GET /health/live, /health/ready and /metrics for processes without HTTP of their own: streams, node agent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.clock_drift import DRIFT
from adapters.errors import Misconfigured
from adapters.http_bounds import READ_TIMEOUT_S, bounded_http
from adapters.process_metrics import Exposition

STOP_TIMEOUT_S = 2
CONNECTIONS_MAX = 64

Readiness = Callable[[], tuple[bool, str]]
"""Whether the process is ready, and the reason why not (or a word on what it is doing) in one short sentence."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process that this server is only a window of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HealthServer:
    """Serves on `host`:`port` from `start` to `stop`; port 0 takes a free one, `port` then tells which.

    `ready` is asked on each GET /health/ready: 200 or 503 with `{"status": ..., "reason": ...}`, with the words of
    `note`, if any, and with a `warning` while the wall clock is wrong. Neither may block.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ready: Readiness,
        *,
        note: Callable[[], str] = str,
        registry: CollectorRegistry = REGISTRY,
        port_setting: str = "the process's port setting",
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._host = host
        self.port = port
        self._ready = ready
        self._note = note
        self._exposition = Exposition(registry, lambda: ready()[0])
        self._port_setting = port_setting
        self._read_timeout_s = read_timeout_s
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens, and returns once requests are answered. Raises Misconfigured when the port cannot be had."""
        listener = self._listen()
        config = uvicorn.Config(
            self._app(),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=bounded_http(read_timeout_s=self._read_timeout_s),
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="health server")
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise Misconfigured(f"the health server on {self._host}:{self.port} ended as it started")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ends the server; running answers get STOP_TIMEOUT_S. Does nothing when it never started."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self.port))
        except OSError as error:
            listener.close()
            cause = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise Misconfigured(f"{self._host}:{self.port} {cause}; {self._port_setting} moves it") from error
        self.port = listener.getsockname()[1]
        return listener

    def _app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/health/live", self._live),
                Route("/health/ready", self._is_ready),
                Route("/metrics", self._metrics),
            ]
        )
        app.router.redirect_slashes = False
        return app

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live", "reason": ""})

    async def _is_ready(self, request: Request) -> Response:
        ready, reason = self._ready()
        status = "ready" if ready else "not_ready"
        note = self._note()
        body = {"status": status, "reason": reason} | ({"note": note} if note else {}) | DRIFT.warning()
        return JSONResponse(body, status_code=200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._exposition.text(), media_type=CONTENT_TYPE_LATEST)
