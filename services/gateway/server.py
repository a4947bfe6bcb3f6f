"""The gateway as one object: what every connection and exchange of this process shares, and the server's life."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from itertools import islice
from typing import Literal, Protocol

from adapters.clock_drift import DRIFT
from domain.field_checks import FieldLimits
from services.gateway import answers, inference, local_routes
from services.gateway.admission import Admission, Hosts
from services.gateway.client_connection import ClientConnection
from services.gateway.exchange import Exchange
from services.gateway.metrics import NOT_READ, Metrics
from services.gateway.models import Caller, Request
from services.gateway.open_files import backlog
from services.gateway.routing import Routes
from services.gateway.settings import GatewaySettings
from services.gateway.spool import Spool
from services.gateway.stream_pace import StreamPace
from services.gateway.upstream_pool import UpstreamPool

logger = logging.getLogger(__name__)

SWEEP_S = 0.5
TLS_HANDSHAKE_S = 10.0
ROOM_TRIES = 16
FLUSH_STEPS, FLUSH_STEP_S = 100, 0.02
Readiness = Literal["ok", "degraded", "starting", "draining", "stale", "spool"]

_INFERENCE: dict[bytes, Literal["chat.completions", "completions"]] = {
    b"/v1/chat/completions": "chat.completions",
    b"/chat/completions": "chat.completions",
    b"/v1/completions": "completions",
    b"/completions": "completions",
}


class KnownState(Protocol):
    """How current keys and services are."""

    @property
    def ready(self) -> bool: ...

    @property
    def degraded(self) -> bool: ...

    def age_s(self) -> float: ...


class Gateway:
    """Built from its parts by `__main__`; `serve` listens, `drain` ends it."""

    def __init__(
        self,
        id: str,
        settings: GatewaySettings,
        loop: asyncio.AbstractEventLoop,
        *,
        admission: Admission,
        routes: Routes,
        pool: UpstreamPool,
        spool: Spool,
        state: KnownState,
    ) -> None:
        self.id = id
        self.settings = settings
        self.loop = loop
        self.admission = admission
        self.routes = routes
        self.pool = pool
        self.spool = spool
        self.hosts = Hosts(settings.domain)
        self.field_limits = FieldLimits(remote_media=settings.image_urls_allowed)
        self.pace = StreamPace(loop, settings.coalesce_ms / 1000)
        self.metrics = Metrics()
        self.connections: set[ClientConnection] = set()
        self.orphans: set[Exchange] = set()
        self.in_flight = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._state = state
        # Those without a whole request, the one that has waited longest first.
        self._waiting: dict[ClientConnection, None] = {}
        self._body_bytes = 0
        self._answer_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def serve(self) -> int:
        """Listen; returns the port. Raises OSError where it is taken."""
        context = tls_context(self.settings)
        self._server = await self.loop.create_server(
            lambda: ClientConnection(self),
            self.settings.host,
            self.settings.port,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_S if context is not None else None,
            reuse_port=self.settings.reuse_port or None,
            backlog=backlog(self.settings.connections_max),
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop_listening(self) -> None:
        """Take no new connection."""
        if self._server is not None:
            self._server.close()

    async def sweep_for_ever(self) -> None:
        """Look at every deadline about twice a second."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.loop.time()
            DRIFT.seconds()  # says in the log where the wall clock begins to be wrong
            for connection in list(self.connections):
                connection.check_time(now)
            for exchange in list(self.orphans):
                exchange.check_time(now)
            self.pool.sweep(self.routes.instances)

    async def drain(self) -> None:
        """Take nothing new, let what runs end within `drain_s`, then break it off and record that."""
        self.draining = True
        self.stop_listening()
        for connection in list(self.connections):
            connection.close_if_idle()
        await self._idle_within(self.settings.drain_s)
        for connection in list(self.connections):
            if not connection.busy:
                connection.abort()
        if self.in_flight:
            await self._break_off()
        for _ in range(FLUSH_STEPS):
            # The last answers: onto disk, then out to clients that still read.
            if self.spool.settled and not self.connections:
                return
            await asyncio.sleep(FLUSH_STEP_S)

    async def _break_off(self) -> None:
        """End what still runs, at the platform's cost, and tell the engines.

        Requests whose clients left before still get `abort_wait_s` for their engines' last reports: those are charged.
        """
        logger.warning("drain time is over", extra={"in_flight": self.in_flight})
        until = self.loop.time() + self.settings.abort_wait_s
        for connection in list(self.connections):
            connection.break_off()
        await self._idle_within(self.settings.abort_wait_s)
        for exchange in list(self.orphans):
            exchange.break_off()
        if self._tasks:  # aborts on their way
            await asyncio.wait(self._tasks, timeout=max(0.0, until - self.loop.time()))

    async def _idle_within(self, limit_s: float) -> None:
        self._idle.clear()
        if self.in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._idle.wait()

    def exchange_ended(self) -> None:
        """One of `in_flight` has ended."""
        self.in_flight -= 1
        if self.draining and not self.in_flight:
            self._idle.set()

    # -- requests ----------------------------------------------------------------------------------------------------

    def handle(self, connection: ClientConnection, request: Request) -> None:
        """Answer, now or later; `connection.answered` is called exactly once for it."""
        target = request.target
        endpoint = _INFERENCE.get(target)
        if endpoint is None and b"?" in target:
            target = target.partition(b"?")[0]
            endpoint = _INFERENCE.get(target)
        if endpoint is not None and request.method == b"POST":
            inference.begin(self, connection, request, endpoint)
            return
        connection.write(local_routes.answer(self, request, target.decode("latin-1")))
        connection.answered(request, keep_alive=True)

    def stranger(self, request: Request) -> answers.Refusal | None:
        """Why this caller's body need not be read at all: nobody knows the key."""
        try:
            self.caller_of(request)
        except answers.Refusal as refusal:
            return refusal
        return None

    def caller_of(self, request: Request) -> Caller:
        """Whose key the request carries. Raises Refusal: 401, or 503 while keys are not known well enough to say so."""
        try:
            return self.admission.caller(request.authorization)
        except answers.Refusal:
            if not self.state_is_fresh():
                raise answers.overloaded("state_too_old") from None
            raise

    def keep_task(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it ends: the loop itself holds it only weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task failed", exc_info=error)

    # -- bounds ------------------------------------------------------------------------------------------------------

    def connection_opened(self, connection: ClientConnection) -> None:
        if len(self.connections) >= self.settings.connections_max and not self._room_made():
            refusal = answers.overloaded("too_many_connections")
            self.metrics.refused(NOT_READ, refusal)
            connection.write(answers.refusal_answer(refusal, keep_alive=False))
            if connection.transport is not None:
                connection.transport.close()
            return
        self.connections.add(connection)
        self.connection_waits(connection)

    def connection_waits(self, connection: ClientConnection) -> None:
        """It has no whole request, from now on: the last to give way to another."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def connection_works(self, connection: ClientConnection) -> None:
        """A request of it is being answered."""
        self._waiting.pop(connection, None)

    def connection_closed(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self._waiting.pop(connection, None)

    def _room_made(self) -> bool:
        """Close the connection that has waited longest, so that those who only hold one keep nobody out."""
        for connection in list(islice(self._waiting, ROOM_TRIES)):
            if connection.gives_way():
                self.connection_closed(connection)
                self.metrics.connections_given_way += 1
                return True
            self.connection_waits(connection)  # it still takes an answer: its turn comes again
        return False

    def body_held(self, size: int) -> bool:
        """Count bytes of a request's body; False where no more may be held."""
        if self._body_bytes + size > self.settings.body_bytes_total_max:
            return False
        self._body_bytes += size
        return True

    def body_released(self, size: int) -> None:
        self._body_bytes -= size

    def answer_held(self, size: int) -> bool:
        """Count bytes of an answer that is gathered whole; False where no more may be held."""
        if self._answer_bytes + size > self.settings.answer_bytes_total_max:
            return False
        self._answer_bytes += size
        return True

    def answer_released(self, size: int) -> None:
        self._answer_bytes -= size

    # -- state -------------------------------------------------------------------------------------------------------

    def state_is_fresh(self) -> bool:
        return self._state.ready and self.state_age_s() <= self.settings.state_age_max_s

    def state_age_s(self) -> float:
        """Since keys and services were last known to be what Kafka holds."""
        return self._state.age_s()

    def degraded(self) -> bool:
        return self._state.degraded

    def readiness(self) -> tuple[Readiness, str | None]:
        if self.draining:
            return "draining", "the gateway is being stopped"
        if not self._state.ready:
            return "starting", "keys and services are not read to their end yet"
        if not self.state_is_fresh():
            return "stale", f"keys and services were last confirmed {self.state_age_s():.0f} s ago"
        if not self.spool.healthy:
            return "spool", "the spool cannot be written"
        if self._state.degraded:
            return "degraded", "Kafka is away: keys and services are as they were last known"
        return "ok", None


def tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """TLS from the certificate and key of the settings; None where neither is set."""
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
