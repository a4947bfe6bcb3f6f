"""A stream on its way to the client: framed for HTTP/1.1 or 1.0, and gathered where chunks come close together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.gateway import answers
from services.gateway.models import Request

if TYPE_CHECKING:
    from services.gateway.client_connection import ClientConnection

_LAST_CHUNK = b"0\r\n\r\n"


class ClientStream:
    """`begun` once any byte has gone out. With `coalesce_s` above 0, what follows a write within that time waits for
    its end and leaves as one; the first chunk never waits.
    """

    __slots__ = (
        "_coalesce_s",
        "_connection",
        "_last_write",
        "_loop",
        "_request",
        "_request_id",
        "_timer",
        "_waiting",
        "begun",
    )

    def __init__(
        self,
        connection: ClientConnection,
        request: Request,
        request_id: str,
        loop: asyncio.AbstractEventLoop,
        coalesce_s: float,
    ) -> None:
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._loop = loop
        self._coalesce_s = coalesce_s
        self._waiting: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_write = 0.0
        self.begun = False

    @property
    def closes_connection(self) -> bool:
        """HTTP/1.0 knows no chunks: there the connection's end is the stream's."""
        return self._request.http10

    def write(self, data: bytes) -> None:
        """Send now, or with what comes within the next moment."""
        if self._coalesce_s and self.begun:
            if self._timer is not None:
                self._waiting.append(data)
                return
            now = self._loop.time()
            if now - self._last_write < self._coalesce_s:
                self._waiting.append(data)
                self._timer = self._loop.call_at(self._last_write + self._coalesce_s, self._write_waiting)
                return
            self._last_write = now
        chunk = self._framed(data)
        if not self.begun:
            self.begun = True
            chunk = self._head() + chunk
        self._connection.write(chunk)

    def end(self, last: bytes) -> bytes:
        """The bytes that end the stream, to be written once its usage is on disk."""
        self.cancel()
        head = b"" if self.begun else self._head()
        self.begun = True
        last = b"".join((*self._waiting, last))
        self._waiting = []
        if self._request.http10:
            return head + last
        return head + (self._framed(last) if last else b"") + _LAST_CHUNK

    def cancel(self) -> None:
        """Send nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_waiting(self) -> None:
        self._timer = None
        self._last_write = self._loop.time()
        data = b"".join(self._waiting)
        self._waiting = []
        self._connection.write(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        return data if self._request.http10 else b"%x\r\n%b\r\n" % (len(data), data)

    def _head(self) -> bytes:
        extra = f"cache-control: no-cache\r\nx-request-id: {self._request_id}\r\n"
        if not self._request.http10:
            extra += "transfer-encoding: chunked\r\n"
        keep_alive = self._request.keep_alive and not self._request.http10
        return answers.head(200, None, content_type="text/event-stream", keep_alive=keep_alive, extra=extra)
