"""uvicorn's HTTP protocol with the bounds that it lacks: the size of a head and of trailers, a client's time, and who
gives way where connections are full.

Without them one client holds a connection for ever by a head, a body or an answer that goes on byte by byte, and fills
the memory by a header or a trailer that does not end. Many that only hold connections would shut everybody out,
health and metrics too: uvicorn refuses requests where `limit_concurrency` connections are open.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.chunk_framing import FRAMING_BYTES_PER_PIECE

HEAD_BYTES_MAX = 65_536
READ_TIMEOUT_S = 20.0
WRITE_TIMEOUT_S = 30.0

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """`read_timeout_s` bounds a request from its first byte (or the connection's begin) to its last, or to the end of
    its head where `body_has_its_own_bound`; `write_timeout_s` how long a client may take nothing of its answer.
    `head_bytes_max` bounds a head, and then what is no body behind it."""

    head_bytes_max = HEAD_BYTES_MAX
    read_timeout_s = READ_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S
    body_has_its_own_bound = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._awaited = False
        self._in_head = False
        self._head_bytes = 0
        self._in_body = False
        self._framing_bytes = 0
        self._waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()
        self._reading = self.loop.call_later(self.read_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self._stop_writing_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun = self.scope if self._in_body else None
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._end_with(_TOO_LARGE)
        elif self._in_body:
            # What came together with the head's end is not counted: it may hold the end of a request before this one.
            self._framing_bytes = max(0, self._framing_bytes + len(data)) if self.scope is begun else 0
            if self._framing_bytes > self.head_bytes_max:
                self.transport.abort()  # as where a body does not end
        if not self._awaited:
            self._stop_reading_timer()
        elif self._reading is None and not self.transport.is_closing():
            self._reading = self.loop.call_later(self.read_timeout_s, self._too_slow)

    def on_message_begin(self) -> None:
        self._awaited = self._in_head = True
        self._head_bytes = 0
        self._waits_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # or it is a trailer, which must not become one of the headers that were acted on
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        if self.body_has_its_own_bound:
            self._awaited = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body) + FRAMING_BYTES_PER_PIECE
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._awaited = self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_writing_timer()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a whole request; none, where all are being answered."""
        waiting = [one for one in self.connections if isinstance(one, BoundedHttp) and one is not self and one._waits]
        if waiting:
            min(waiting, key=lambda one: one._waits_since).transport.abort()

    @property
    def _waits(self) -> bool:
        """Whether no whole request is in it, and its client has taken all answers."""
        if self.pipeline or self.transport.is_closing() or self.transport.get_write_buffer_size():
            return False
        in_body = self._in_body and not self.body_has_its_own_bound and not self.cycle.response_started
        return in_body or self.cycle is None or self.cycle.response_complete

    def _too_slow(self) -> None:
        self._reading = None
        if self._in_head or not self._awaited:
            self._end_with(_TOO_SLOW)
        else:
            # Its answer may have begun: the application hears that the client is gone.
            self.transport.abort()

    def _end_with(self, answer: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
            self.transport.close()
        else:
            self.transport.abort()  # an answer is on its way: nothing may be written into it

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing_timer(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


def bounded_http(
    *,
    head_bytes_max: int = HEAD_BYTES_MAX,
    read_timeout_s: float = READ_TIMEOUT_S,
    write_timeout_s: float = WRITE_TIMEOUT_S,
    body_has_its_own_bound: bool = False,
) -> type[BoundedHttp]:
    """The protocol with these bounds, for `uvicorn.Config(http=...)`, which takes a class."""
    bounds = {
        "head_bytes_max": head_bytes_max,
        "read_timeout_s": read_timeout_s,
        "write_timeout_s": write_timeout_s,
        "body_has_its_own_bound": body_has_its_own_bound,
    }
    return type("BoundedHttp", (BoundedHttp,), bounds)
