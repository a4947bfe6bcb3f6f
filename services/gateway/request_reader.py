"""Bytes to whole requests, within bounds: httptools' callbacks and nothing of sockets, models or money."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import httptools

from adapters.chunk_framing import FRAMING_BYTES_PER_PIECE
from adapters.clock import wall_now
from services.gateway import answers
from services.gateway.answers import Refusal
from services.gateway.models import Request

if TYPE_CHECKING:
    from services.gateway.server import Gateway

_BETWEEN, _HEAD, _BODY = "between", "head", "body"
_READ_HEADERS = frozenset({b"authorization", b"host", b"content-length", b"expect", b"x-request-id"})
EARLY_BYTES = 65_536
"""A body above this (or of unknown length) is not taken in from a caller without a key that counts."""


class RequestSink(Protocol):
    """Who gets the requests. After `request_unread` and `no_request` the reader drops all that still comes."""

    def request_read(self, request: Request) -> None: ...

    def request_unread(self, request: Request) -> None: ...

    def no_request(self, refusal: Refusal) -> None: ...

    def body_awaited(self) -> None: ...


class RequestReader:
    """`discarding` once nothing more is read from the connection: what follows cannot be told apart any more."""

    __slots__ = (
        "_body_bytes",
        "_framing_bytes",
        "_gateway",
        "_head_bytes",
        "_head_bytes_max",
        "_parser",
        "_parts",
        "_request",
        "_sink",
        "_state",
        "discarding",
    )

    def __init__(self, gateway: Gateway, sink: RequestSink) -> None:
        self._gateway = gateway
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._parts: list[bytes] = []
        self._state = _BETWEEN
        self._head_bytes = 0
        self._head_bytes_max = gateway.settings.header_bytes_max
        self._body_bytes = 0
        self._framing_bytes = 0
        self.discarding = False

    @property
    def between(self) -> bool:
        """Whether no request has been read in part."""
        return self._state is _BETWEEN

    def feed(self, data: bytes) -> None:
        """Read on; each request goes to the sink as soon as it is whole or is known to be refused."""
        if self.discarding:
            return
        begun = self._request if self._state is _BODY else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.discard()  # it was refused when its head was complete
        except httptools.HttpParserError:
            self._stop(answers.bad_http())
        if self._state is _HEAD:
            # What was read of a head that is not complete yet, so that one endless line is bounded too.
            self._head_bytes += len(data)
            if self._head_bytes > 2 * self._head_bytes_max:
                self._head_too_large()
        elif self._state is _BODY:
            # What came together with the head's end is not counted: it may hold the end of a request before this one.
            self._framing_bytes = max(0, self._framing_bytes + len(data)) if self._request is begun else 0
            if self._framing_bytes > self._head_bytes_max:
                self._framing_too_large()

    def too_slow(self) -> None:
        """The request that has begun did not come in time."""
        self._stop(answers.read_timeout())

    def discard(self) -> None:
        """Read nothing more."""
        self.discarding = True
        self._state = _BETWEEN
        self._request = None
        if self._parts:
            self._gateway.body_released(sum(map(len, self._parts)))
            self._parts = []

    def _stop(self, refusal: Refusal) -> None:
        if self.discarding:
            return
        request = self._request
        if request is not None and self._state is _BODY:
            # Its head was whole, so it may be an authenticated request: it is refused and recorded as one.
            self._refuse(request, refusal)
        else:
            self.discard()
            self._sink.no_request(refusal)

    def _refuse(self, request: Request, refusal: Refusal) -> None:
        request.problem = refusal
        request.keep_alive = False
        self.discard()
        self._sink.request_unread(request)

    def _head_too_large(self) -> None:
        text = f"The request's headers are larger than {self._head_bytes_max} bytes. Send fewer or shorter ones."
        self._stop(Refusal(431, text))

    def _framing_too_large(self) -> None:
        text = (
            f"The request's trailers, or the extensions of its chunks, are larger than {self._head_bytes_max} bytes. "
            "Send fewer or shorter ones, or a Content-Length."
        )
        self._stop(Refusal(431, text))

    # -- httptools -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.discarding:
            return
        self._state = _HEAD
        self._head_bytes = 0
        self._request = Request(wall_now(), time.monotonic())

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.target += url  # it may come in pieces
            self._head_bytes += len(url)
            if self._head_bytes > self._head_bytes_max:
                self._head_too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None or self._state is not _HEAD:
            return  # a trailer: nothing here is decided by one
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._head_bytes_max:
            self._head_too_large()
        name = name.lower()
        if name not in _READ_HEADERS:
            return
        if name == b"authorization":
            request.authorization = value
        elif name == b"host":
            if request.host is not None:
                request.problem = answers.bad_http("The request has two Host headers. Send one.")
            request.host = value
        elif name == b"content-length":
            request.content_length = int(value)
        elif name == b"expect":
            request.expects_continue = value.lower() == b"100-continue"
        elif name == b"x-request-id":
            request.client_request_id = value[:128]

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.method = self._parser.get_method()
        request.http10 = self._parser.get_http_version() == "1.0"
        request.keep_alive = self._parser.should_keep_alive()
        self._state = _BODY
        self._body_bytes = 0
        problem = request.problem or self._problem_of_head(request)
        if problem is not None:
            self._refuse(request, problem)
        elif request.expects_continue:
            self._sink.body_awaited()

    def _problem_of_head(self, request: Request) -> Refusal | None:
        if self._parser.should_upgrade():
            # The parser reads no body behind such a head, so its end is not known.
            return answers.bad_http("This server speaks HTTP/1.1 only. Send no `Upgrade` header.")
        limit = self._gateway.settings.body_bytes_max
        if request.content_length is not None and request.content_length > limit:
            return answers.too_large(limit)
        if request.method == b"POST" and (request.content_length is None or request.content_length > EARLY_BYTES):
            return self._gateway.stranger(request)
        return None

    def on_body(self, body: bytes) -> None:
        request = self._request
        if request is None:
            return
        self._body_bytes += len(body)
        self._framing_bytes -= len(body) + FRAMING_BYTES_PER_PIECE
        limit = self._gateway.settings.body_bytes_max
        if self._body_bytes > limit:
            self._refuse(request, answers.too_large(limit))
        elif not self._gateway.body_held(len(body)):
            self._refuse(request, answers.overloaded())
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        parts = self._parts
        if parts:
            request.body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        self._request = None
        self._state = _BETWEEN
        self._sink.request_read(request)
