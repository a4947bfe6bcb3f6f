"""The engine's side: one pooled HTTP/1.1 connection, its bytes handed to the exchange that holds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from services.gateway.models import Instance
    from services.gateway.upstream_pool import UpstreamPool


class AnswerReader(Protocol):
    """Who gets what the engine sends. Each answer ends in exactly one `upstream_complete` or `upstream_lost`."""

    def upstream_began(self, status: int) -> None: ...

    def upstream_data(self, data: bytes) -> None: ...

    def upstream_complete(self) -> None: ...

    def upstream_lost(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """`used` counts the requests that it has carried; a reused one may turn out to be stale."""

    __slots__ = (
        "_began",
        "_complete",
        "_parser",
        "_parts",
        "_paused",
        "_reusable",
        "answered",
        "idle_since",
        "instance",
        "lost",
        "pool",
        "reader",
        "transport",
        "used",
    )

    def __init__(self, pool: UpstreamPool, instance: Instance) -> None:
        self.pool = pool
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self.reader: AnswerReader | None = None
        self.used = 0
        self.answered = False
        self.lost = False
        self.idle_since = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        self._parts: list[bytes] = []
        self._began = False
        self._complete = False
        self._paused = False
        self._reusable = False

    # -- the exchange's side ---------------------------------------------------------------------------------------

    def send(self, reader: AnswerReader, head: bytes, body: bytes) -> None:
        """Write one request; `answered` tells whether any byte of its answer has come."""
        assert self.transport is not None
        self.reader = reader
        self.used += 1
        self.answered = False
        self._began = False
        self._complete = False
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self.transport.write(head + body)

    def pause(self) -> None:
        if self.transport is not None and not self.lost and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.lost and self._paused:
            self._paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Let go of it; its reader hears nothing more."""
        self.reader = None
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self.reader is None:
            self.close()  # nobody asked for these bytes
            return
        self.answered = True
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail()
            return
        reader = self.reader
        if self._parts and reader is not None:
            parts = self._parts
            whole = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
            reader.upstream_data(whole)
        if self._complete and self.reader is not None:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.pool.forget(self)
        if self.reader is not None:
            self._fail()

    def _fail(self) -> None:
        reader, self.reader = self.reader, None
        if self.transport is not None:
            self.transport.abort()
        if reader is not None:
            reader.upstream_lost()

    def _finish(self) -> None:
        reader, self.reader = self.reader, None
        reusable = self._reusable and not self.lost
        if reusable:
            self.resume()
            self.pool.give_back(self)
        else:
            self.close()
        if reader is not None:
            reader.upstream_complete()

    # -- httptools -------------------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 and self.reader is not None:
            self._began = True
            # Asked here: once the message is complete the parser has forgotten how it was framed.
            self._reusable = self._parser.should_keep_alive()
            self.reader.upstream_began(status)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        # An interim answer (100) completes a message too.
        self._complete = self._began
