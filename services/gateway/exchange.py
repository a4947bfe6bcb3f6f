"""One inference request: passed through, metered, and ended exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.clock import wall_now
from schemas.usage import UsageOutcome
from services.gateway import answers, engine_errors, stream_usage
from services.gateway.answers import Refusal
from services.gateway.client_stream import ClientStream
from services.gateway.dispatch import Dispatch
from services.gateway.gathered_answer import GatheredAnswer
from services.gateway.metering import Meter
from services.gateway.models import Instance, Request
from services.gateway.request_body import RequestBody
from services.gateway.request_time import RequestTime
from services.gateway.stream_usage import StreamFilter, Usage

if TYPE_CHECKING:
    from services.gateway.client_connection import ClientConnection
    from services.gateway.server import Gateway

_CLIENT_GONE_STATUS = 499


class Exchange:
    """Holds the client's connection and, by its dispatch, the engine's. Every way out passes `_done`."""

    __slots__ = (
        "_body",
        "_client_here",
        "_connection",
        "_dispatch",
        "_gateway",
        "_gathered",
        "_last_chunk",
        "_meter",
        "_parting",
        "_request",
        "_status",
        "_stream",
        "_time",
        "finished",
    )

    def __init__(
        self,
        gateway: Gateway,
        connection: ClientConnection,
        request: Request,
        body: RequestBody,
        meter: Meter,
        instance: Instance,
    ) -> None:
        self._gateway = gateway
        self._connection = connection
        self._request = request
        self._body = body
        self._meter = meter
        self._dispatch = Dispatch(gateway, meter, body, instance, self)
        self._stream: ClientStream | None = None
        self._gathered = GatheredAnswer(gateway)
        self._last_chunk = float("-inf")
        self._status = 0
        self._client_here = True
        self._parting = "client_gone", b""
        self.finished = False
        self._time = RequestTime(gateway.settings, gateway.loop.time())

    def begin(self) -> None:
        """The intent goes to disk; only then is the request dispatched."""
        self._gateway.in_flight += 1
        self._gateway.spool.append_intent(self._meter.intent(), self._dispatch.begin)

    # -- from the engine -------------------------------------------------------------------------------------------

    def upstream_began(self, status: int) -> None:
        self._status = status
        if status != 200 or not self._body.stream:
            return
        own_id = self._meter.request_id
        rewrite_id = own_id if self._dispatch.foreign_id else None
        passing = StreamFilter.of(self._body, rewrite_id, self._gateway.settings.event_bytes_max)
        self._stream = ClientStream(self._connection, self._request, own_id, passing)

    def upstream_data(self, data: bytes) -> None:
        if self.finished:
            return
        stream = self._stream
        if stream is None:
            unheld = self._gathered.add(data, self._status)
            if unheld is not None:
                self._fail(unheld, "engine_lost")
            return
        now = self._gateway.loop.time()
        self._time.bytes_came(now)
        try:
            forward = stream.filter.feed(data)
        except ValueError:
            self._fail(answers.engine_failed(), "engine_lost")
            return
        if forward and self._client_here:
            if not stream.begun:
                self._meter.first_token = wall_now()
            stream.write(forward)
        if stream.filter.too_large and self._client_here:
            self._event_too_large(stream)
        elif stream.filter.error is not None:
            self._fail(engine_errors.in_a_stream(stream.filter.error), "engine_refused")
        elif now - self._last_chunk < self._gateway.pace.beat_s:
            self._rest()
        self._last_chunk = now

    def _rest(self) -> None:
        """This stream is fast: leave what comes next in the socket for a moment, to pass it on together."""
        if self._client_here and self._dispatch.upstream is not None:
            self._dispatch.upstream.pause()
            self._gateway.pace.rest(self)

    def rest_over(self) -> None:
        if self._dispatch.upstream is not None and self._connection.paused_since is None:
            self._dispatch.upstream.resume()

    def _event_too_large(self, stream: ClientStream) -> None:
        """The engine's fault, unless the request asked for that: then its client pays up to here, as one that left."""
        if not self._body.fills_events:
            self._fail(answers.engine_failed(), "engine_lost")
            return
        refusal = answers.event_too_large(self._gateway.settings.event_bytes_max)
        self._parting = refusal.code, stream.end(answers.stream_error(refusal))
        self.client_gone()
        if not self.finished:
            # Its last report is awaited like any other's whose client has left, also by a drain.
            self._connection.exchange = None

    def upstream_complete(self) -> None:
        self._dispatch.upstream = None
        if self.finished:
            return
        if self._stream is not None:
            self._stream_complete(self._stream)
        elif self._status == 200:
            self._whole_complete(self._gathered.whole())
        else:
            self._refused_by_engine(self._gathered.whole())

    def _whole_complete(self, body: bytes) -> None:
        usage = stream_usage.usage_of(body)
        if not self._client_here:
            self._client_gone_done(usage)
            return
        if self._dispatch.foreign_id:
            try:
                body = stream_usage.with_id(body, self._meter.request_id)
            except ValueError:
                self._fail(answers.engine_failed(), "engine_refused")
                return
        answer = answers.whole_answer(body, self._meter.request_id, keep_alive=self._request.keep_alive)
        self._done("completed", 200, usage, answer=answer)

    def _stream_complete(self, stream: ClientStream) -> None:
        filtered = stream.filter
        if not self._client_here:
            self._client_gone_done(filtered.usage)
        elif not filtered.done and filtered.usage is None:
            self._fail(answers.upstream_lost(), "engine_lost")
        else:
            self._done("completed", 200, filtered.usage, answer=stream.end(filtered.held))

    def _refused_by_engine(self, body: bytes) -> None:
        if self._client_here and self._dispatch.refused(self._status):
            self._begin_again()
        else:
            self._fail(engine_errors.refusal(self._status, body), "engine_refused")

    def upstream_lost(self) -> None:
        if self.finished:
            self._dispatch.upstream = None
        elif not self._client_here:
            self._dispatch.upstream = None
            self._client_gone_done(self._usage_seen())
        elif self._dispatch.lost():
            self._begin_again()
        else:
            self._fail(answers.upstream_lost(), "engine_lost")

    def not_connected(self) -> None:
        if self._dispatch.unreachable():
            self._begin_again()
        else:
            self._fail(answers.no_instance(), "engine_lost")

    def out_of_files(self) -> None:
        """No connection could be opened for want of files: our own failure, which says nothing of the engine."""
        refusal = answers.overloaded("out_of_files")
        self._gateway.metrics.refused(self._meter.endpoint, refusal)
        self._fail(refusal, "refused")

    def _begin_again(self) -> None:
        self._gathered.drop()
        self._time.begun(self._gateway.loop.time())

    # -- from the client -------------------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """Stop the engine and learn what it has done so far; the client pays up to here."""
        if self.finished or not self._client_here:
            return
        self._client_here = False
        upstream = self._dispatch.upstream
        if upstream is None or self._body.n > 1:
            # No engine has it, or one that cannot abort it by an id of ours: then the close must do.
            self._client_gone_done(self._usage_seen())
            return
        upstream.resume()
        self._time.parted(self._gateway.loop.time())
        self._gateway.orphans.add(self)
        self._dispatch.abort(until_finished=True)

    def client_paused(self) -> None:
        self._time.paused(self._gateway.loop.time())
        if self._dispatch.upstream is not None and self._client_here:
            self._dispatch.upstream.pause()

    def client_resumed(self) -> None:
        self._time.resumed(self._gateway.loop.time())
        if self._dispatch.upstream is not None:
            self._dispatch.upstream.resume()

    # -- time --------------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Called about twice a second by the sweep."""
        slow = None if self.finished else self._time.used_up_by(now)
        if slow is None:
            return
        if slow == "client":
            self._connection.abort()  # and by that it has gone
            return
        if self._client_here:
            self._gateway.routes.failed(self._dispatch.instance, 504)
            self._dispatch.abort(until_finished=False)
        self._fail(answers.upstream_timeout(), "upstream_timeout")

    def break_off(self) -> None:
        """The gateway stops and waits no longer: the platform pays. A client that left before pays up to there."""
        if self.finished:
            return
        if self._client_here and self._dispatch.upstream is not None:
            self._dispatch.abort(until_finished=False)
        self._fail(answers.gateway_stopped(), "gateway_lost")

    # -- the end -------------------------------------------------------------------------------------------------------

    def _usage_seen(self) -> Usage | None:
        return self._stream.filter.usage if self._stream is not None else None

    def _client_gone_done(self, usage: Usage | None) -> None:
        outcome: UsageOutcome = "client_gone" if usage is not None else "client_gone_unreported"
        code, last_words = self._parting
        self._done(outcome, 200 if last_words else _CLIENT_GONE_STATUS, usage, answer=last_words, error_code=code)

    def _fail(self, refusal: Refusal, outcome: UsageOutcome) -> None:
        if not self._client_here:
            self._client_gone_done(self._usage_seen())
            return
        if self._stream is not None and self._stream.begun:
            status, answer = 200, self._stream.end(answers.stream_error(refusal))
        else:
            status = refusal.status
            keep_alive = self._request.keep_alive and not self._gateway.draining
            answer = answers.refusal_answer(refusal, keep_alive=keep_alive, request_id=self._meter.request_id)
        self._meter.tell_failure(outcome, status, refusal.code)
        self._done(outcome, status, self._usage_seen(), answer=answer, error_code=refusal.code)

    def _done(
        self,
        outcome: UsageOutcome,
        status: int,
        usage: Usage | None,
        *,
        answer: bytes = b"",
        error_code: str | None = None,
    ) -> None:
        """The only way out: the event goes to disk, then the answer's last bytes to the client."""
        if self.finished:
            return
        self.finished = True
        gateway = self._gateway
        self._dispatch.release()
        gateway.orphans.discard(self)
        gateway.exchange_ended()
        ended = self._meter.end()
        if outcome != "refused":
            gateway.metrics.finished(self._meter, outcome, status, usage, ended)
        event = self._meter.event(outcome, status, ended, usage, error_code)
        gateway.spool.append_end(
            self._meter.request_id, self._meter.caller.account, event, lambda: self._release(answer)
        )

    def _release(self, answer: bytes) -> None:
        if answer:
            self._connection.write(answer)
        self._connection.hold_until_sent(self._gathered.held_bytes)
        closes = self._stream is not None and self._stream.begun and self._stream.closes_connection
        self._connection.answered(self._request, keep_alive=not closes)
