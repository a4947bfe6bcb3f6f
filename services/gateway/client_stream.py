"""A stream on its way to the client: what of the engine's bytes it may have, framed for HTTP/1.1 or 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway import answers
from services.gateway.models import Request
from services.gateway.stream_usage import StreamFilter

if TYPE_CHECKING:
    from services.gateway.client_connection import ClientConnection

_LAST_CHUNK = b"0\r\n\r\n"


class ClientStream:
    """`filter` is fed the engine's bytes; `begun` once any byte has gone out."""

    __slots__ = ("_chunked", "_connection", "_request", "_request_id", "begun", "filter")

    def __init__(
        self, connection: ClientConnection, request: Request, request_id: str, stream_filter: StreamFilter
    ) -> None:
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._chunked = not request.http10
        self.filter = stream_filter
        self.begun = False

    @property
    def closes_connection(self) -> bool:
        """HTTP/1.0 knows no chunks: there the connection's end is the stream's."""
        return not self._chunked

    def write(self, data: bytes) -> None:
        """Send what the filter let through; the head goes before the first of it."""
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if not self.begun:
            self.begun = True
            chunk = self._head() + chunk
        self._connection.write(chunk)

    def end(self, last: bytes) -> bytes:
        """The bytes that end the stream, to be written once its usage is on disk."""
        head = b"" if self.begun else self._head()
        self.begun = True
        if not self._chunked:
            return head + last
        return head + (b"%x\r\n%b\r\n" % (len(last), last) if last else b"") + _LAST_CHUNK

    def _head(self) -> bytes:
        extra = f"cache-control: no-cache\r\nx-request-id: {self._request_id}\r\n"
        if self._chunked:
            extra += "transfer-encoding: chunked\r\n"
        keep_alive = self._request.keep_alive and self._chunked
        return answers.head(200, None, content_type="text/event-stream", keep_alive=keep_alive, extra=extra)
