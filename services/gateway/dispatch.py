"""An inference request's way to an engine: which instance, under which id, over which connection, and once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from adapters import open_files
from adapters.clock import wall_now
from schemas.usage import Attempt, UsageOutcome
from services.gateway.abort import abort_until_done
from services.gateway.metering import Meter
from services.gateway.models import Instance
from services.gateway.request_body import RequestBody
from services.gateway.upstream_connection import AnswerReader, UpstreamConnection

if TYPE_CHECKING:
    from services.gateway.server import Gateway

_WRONG_ENGINE = (401, 403, 404)
_BUSY_ENGINE = (429, 503)
_PATHS = {"chat.completions": "/v1/chat/completions", "completions": "/v1/completions"}


class Dispatching(AnswerReader, Protocol):
    """Who waits for the answer. `finished` once nobody does any more."""

    @property
    def finished(self) -> bool: ...

    def not_connected(self) -> None: ...

    def out_of_files(self) -> None: ...


class _Nobody:
    """Who waits once the request has ended. No reference leads back to it then, so that it is freed at once."""

    finished = True

    def upstream_began(self, status: int) -> None: ...

    def upstream_data(self, data: bytes) -> None: ...

    def upstream_complete(self) -> None: ...

    def upstream_lost(self) -> None: ...

    def not_connected(self) -> None: ...

    def out_of_files(self) -> None: ...


_NOBODY = _Nobody()


class Dispatch:
    """Counts in its instance's `in_flight` from its making until `release`.

    `upstream` is set while an engine has the request.
    """

    __slots__ = (
        "_attempt_started",
        "_body",
        "_gateway",
        "_meter",
        "_reader",
        "_tried",
        "engine_id",
        "instance",
        "upstream",
    )

    def __init__(
        self, gateway: Gateway, meter: Meter, body: RequestBody, instance: Instance, reader: Dispatching
    ) -> None:
        self._gateway = gateway
        self._meter = meter
        self._body = body
        self._reader = reader
        self._tried: tuple[Instance, ...] = ()
        self._attempt_started = meter.received
        self.instance = instance
        self.engine_id = meter.request_id
        self.upstream: UpstreamConnection | None = None
        instance.in_flight += 1

    def begin(self) -> None:
        """Send the request; the intent is on disk."""
        if self._reader.finished:
            return
        upstream = self._gateway.pool.take(self.instance)
        if upstream is not None:
            self._send(upstream)
        else:
            self._gateway.keep_task(self._gateway.loop.create_task(self._connect(self.instance)))

    async def _connect(self, instance: Instance) -> None:
        try:
            upstream = await self._gateway.pool.connect(instance)
        except OSError as error:  # TimeoutError too
            self._not_connected(error)
            return
        if self._reader.finished:
            self._gateway.pool.give_back(upstream)
        else:
            self._send(upstream)

    def _not_connected(self, error: OSError) -> None:
        gateway, reader = self._gateway, self._reader
        ours = open_files.ran_out(error)
        if ours:
            gateway.pool.close_idle(gateway.routes.instances)
        else:
            gateway.metrics.connect_failures += 1
        if reader.finished:
            return
        if ours:
            reader.out_of_files()
        else:
            reader.not_connected()

    def _send(self, upstream: UpstreamConnection) -> None:
        self.upstream = upstream
        priority = self._gateway.settings.engine_priority
        body = self._body.for_engine(self.engine_id, self._meter.caller.account, priority)
        head = self.instance.head_prefix[_PATHS[self._meter.endpoint]] + b"%d\r\n\r\n" % len(body)
        upstream.send(self._reader, head, body)

    def refused(self, status: int) -> bool:
        """The engine answered with an error; whether another attempt is under way."""
        if status in _WRONG_ENGINE:
            # Our own key or path was refused: the engine is another than we think.
            self._gateway.routes.failed(self.instance, 500)
        return status in (*_WRONG_ENGINE, *_BUSY_ENGINE) and self._again("engine_refused")

    def lost(self) -> bool:
        """The engine broke off; whether another attempt is under way."""
        upstream, self.upstream = self.upstream, None
        unanswered = upstream is not None and not upstream.answered
        # A connection that the engine closed while it was idle says nothing about the engine.
        stale = unanswered and upstream is not None and upstream.used > 1
        if not stale:
            self._gateway.routes.failed(self.instance, 502)
        return unanswered and self._again("engine_lost", same_instance_too=stale)

    def unreachable(self) -> bool:
        """No connection came about; whether another attempt is under way."""
        self._gateway.routes.failed(self.instance, 503)
        return self._again("engine_lost")

    def _again(self, outcome: UsageOutcome, *, same_instance_too: bool = False) -> bool:
        """Another attempt where one is allowed and an instance is left; `outcome` is how this one ended.

        Every attempt has an id of its own: an engine refuses one that still runs.
        """
        gateway, meter = self._gateway, self._meter
        self.upstream = None
        if len(meter.attempts) + 1 >= gateway.settings.attempts_max:
            return False
        following = gateway.routes.strategy.pick(self._body.model, (*self._tried, self.instance))
        if following is None and same_instance_too:
            following = self.instance
        if following is None:
            return False
        now = wall_now()
        attempt = Attempt(
            instance=self.instance.id,
            epoch=self.instance.epoch,
            engine_request_id=self.engine_id,
            started=self._attempt_started,
            ended=now,
            outcome=outcome,
        )
        meter.attempts = (*meter.attempts, attempt)
        gateway.metrics.retries += 1
        self._attempt_started = now
        self._tried = (*self._tried, self.instance)
        self.instance.in_flight -= 1
        following.in_flight += 1
        self.instance = meter.instance = following
        self.engine_id = f"{meter.request_id}-{len(meter.attempts)}"
        self.begin()
        return True

    @property
    def foreign_id(self) -> bool:
        """Whether the engine answers under another id than the request's."""
        return self._body.foreign_id or self.engine_id != self._meter.request_id

    def abort(self, *, until_finished: bool) -> None:
        """Tell the engine to stop: once, or again and again until the request has ended."""
        ids = self._body.engine_request_ids(self.engine_id)
        reader = self._reader
        work = abort_until_done(
            self._gateway.pool, self.instance, ids, lambda: reader.finished if until_finished else True
        )
        self._gateway.keep_task(self._gateway.loop.create_task(work))

    def release(self) -> None:
        """The request has ended: let go of the instance, and of a connection that is not at its answer's end."""
        self.instance.in_flight -= 1
        self._reader = _NOBODY
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
