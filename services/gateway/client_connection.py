"""The client's side: its requests answered one after the other, within the bounds of time and size."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from services.gateway import answers
from services.gateway.answers import Refusal
from services.gateway.models import Request
from services.gateway.request_reader import RequestReader

if TYPE_CHECKING:
    from services.gateway.server import Gateway

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchanging(Protocol):
    """What answers a request over time and wants to hear of its client."""

    def client_gone(self) -> None: ...

    def client_paused(self) -> None: ...

    def client_resumed(self) -> None: ...

    def break_off(self) -> None: ...

    def check_time(self, now: float) -> None: ...


class ClientConnection(asyncio.Protocol):
    """`busy` while a request is being answered; what arrives meanwhile waits in a bounded queue.

    While the client does not read (`paused_since`) no other request of its begins: at most one answer waits for it.
    """

    __slots__ = (
        "_deadline",
        "_ending",
        "_pumping",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_reading_paused",
        "_unsent_answer_bytes",
        "_written_by",
        "busy",
        "closed",
        "exchange",
        "gateway",
        "paused_since",
        "transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchanging | None = None
        self.busy = False
        self.closed = False
        self.paused_since: float | None = None
        self._reader = RequestReader(gateway, self)
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._pumping = False
        self._ending = False
        self._reading_paused = False
        self._unsent_answer_bytes = 0
        self._deadline = 0.0
        self._written_by = 0.0

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._set_deadline(self.gateway.settings.request_read_timeout_s)
        self.gateway.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        begins = reader.between and not self._ending
        if begins:
            self._set_deadline(self.gateway.settings.request_read_timeout_s)
        reader.feed(data)
        self._pump()
        if begins and not self.busy and not self.closed and not reader.between:
            # A request that has begun and is not whole: it has a turn of its own.
            self.gateway.connection_waits(self)

    def eof_received(self) -> bool:
        # A half-closed connection is a client that has gone: nothing tells the two apart, and a generation for
        # nobody costs a GPU.
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._reader.discard()
        self._drop_queue()
        self._answer_sent()
        self.gateway.connection_closed(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self.paused_since = self.gateway.loop.time()
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        self.paused_since = None
        self._answer_sent()
        if self.exchange is not None:
            self.exchange.client_resumed()
        if not self._ending:
            self._pump()

    # -- from the reader -------------------------------------------------------------------------------------------

    def request_read(self, request: Request) -> None:
        if len(self._queue) >= self.gateway.settings.pipeline_max:
            self.gateway.body_released(len(request.body))
            self._reader.discard()
            return
        self._queue.append(request)
        self._queued_bytes += len(request.body)
        waits = self.busy or self.paused_since is not None
        if waits and (len(self._queue) > 1 or self._queued_bytes > self.gateway.settings.body_bytes_max):
            self._pause_reading()

    def request_unread(self, request: Request) -> None:
        """It is refused before it was read to its end; what came before it is answered first."""
        self._queue.append(request)

    def no_request(self, refusal: Refusal) -> None:
        """What came is no request; where others are still being answered, the connection just ends after them."""
        if not self.busy and not self._queue:
            self.gateway.metrics.unparsed(refusal.status)
            self.write(answers.refusal_answer(refusal, keep_alive=False))
            self._close_after_writing()

    def body_awaited(self) -> None:
        if not self.busy and not self._queue:
            self.write(_CONTINUE)

    # -- requests --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin the next request where none is being answered and the client reads.

        A loop, so that pipelining does not recurse.
        """
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and not self.busy and not self.closed and self.paused_since is None:
                request = self._queue.popleft()
                self._queued_bytes -= len(request.body)
                self.busy = True
                self.gateway.connection_works(self)
                self.gateway.handle(self, request)
            if not self.busy and not self._queue:
                self._resume_reading()
        finally:
            self._pumping = False

    def write(self, data: bytes) -> None:
        if not self.closed and self.transport is not None:
            self.transport.write(data)

    def hold_until_sent(self, size: int) -> None:
        """An answer whose `size` bytes the gateway counts has been written; they count until the client takes them."""
        if self.paused_since is not None and not self.closed:
            self._unsent_answer_bytes += size
        else:
            self.gateway.answer_released(size)

    def _answer_sent(self) -> None:
        self.gateway.answer_released(self._unsent_answer_bytes)
        self._unsent_answer_bytes = 0

    def answered(self, request: Request, *, keep_alive: bool) -> None:
        """The request's answer has been written whole."""
        self.exchange = None
        self.busy = False
        self.gateway.body_released(len(request.body))
        if self.closed or self.transport is None:
            return
        self.gateway.connection_waits(self)
        settings = self.gateway.settings
        self._written_by = self.gateway.loop.time() + settings.client_write_timeout_s
        self._set_deadline(settings.idle_timeout_s if self._reader.between else settings.request_read_timeout_s)
        if not keep_alive or not request.keep_alive or (self._reader.discarding and not self._queue):
            self._close_after_writing()
        elif self._queue or self._reading_paused:
            self._pump()
        elif self.gateway.draining:
            self.transport.close()

    # -- time and endings ------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Called about twice a second: every deadline of this connection, so that no request needs a timer."""
        transport = self.transport
        if self.closed or transport is None:
            return
        if self.paused_since is not None and now - self.paused_since > self.gateway.settings.client_write_timeout_s:
            transport.abort()
        elif self.exchange is not None:
            self.exchange.check_time(now)
        elif self.busy or self._queue or now <= self._deadline:
            return
        elif self._ending:
            transport.abort()
        elif self._reader.between:
            transport.close()
        else:
            self._reader.too_slow()
            self._pump()

    def close_if_idle(self) -> None:
        """For a drain: an idle connection is closed now, a busy one after its answer."""
        if not self.busy and not self._queue and self.transport is not None and self._reader.between:
            self.transport.close()

    def gives_way(self) -> bool:
        """Close it at once for another, unless a whole request or the rest of an answer is in it; whether it was."""
        transport = self.transport
        if transport is None or self._queue or transport.get_write_buffer_size():
            return False
        # With TLS what still waits to be sent is not told: then an answer may have its whole time.
        if transport.get_extra_info("ssl_object") is not None and self.gateway.loop.time() < self._written_by:
            return False
        transport.abort()
        return True

    def break_off(self) -> None:
        """For a drain that is over: the request that is still being answered ends now, and tells its client."""
        if self.exchange is not None:
            self.exchange.break_off()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _close_after_writing(self) -> None:
        """Close so that the answer arrives: bytes unread at a close would make the kernel reset the connection."""
        transport = self.transport
        if transport is None:
            return
        unread = self._reader.discarding
        self._drop_queue()
        self._reader.discard()
        self._ending = True
        if unread and transport.can_write_eof():
            transport.write_eof()
            self._resume_reading()
            self._set_deadline(self.gateway.settings.linger_s)
        else:
            transport.close()

    def _set_deadline(self, within_s: float) -> None:
        self._deadline = self.gateway.loop.time() + within_s

    def _drop_queue(self) -> None:
        self.gateway.body_released(sum(len(request.body) for request in self._queue))
        self._queue.clear()
        self._queued_bytes = 0

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()
