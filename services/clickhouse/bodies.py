"""Request bodies: read within a bound of bytes and time, and unpacked within the same bound."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import lz4.frame
import zstandard

from services.clickhouse.errors import QueryError

Receive = Callable[[], Awaitable[dict[str, Any]]]

_UNKNOWN_COMPRESSION = 89
_CANNOT_DECOMPRESS = 271
_BAD_ARGUMENTS = 36
_NOT_IMPLEMENTED = 48
# A frame names the memory that it wants for unpacking; no client's compression level asks for more than 8 MiB.
_ZSTD_WINDOW_MAX = 16 * 1_048_576


class ClientGone(Exception):
    """The client closed the connection: nobody reads an answer."""


async def read_body(receive: Receive, bytes_max: int, time_max_s: float) -> bytes:
    """The whole body. Raises QueryError 413 or 408 past a bound, ClientGone when the client leaves."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(time_max_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise QueryError(209, f"The body did not arrive within {time_max_s} s (SOCKET_TIMEOUT)") from None


def unpacked(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The body without its Content-Encoding. Raises QueryError for an encoding not known, broken data or too much of
    it. Blocking: some 100 MB take a second."""
    try:
        match encoding:
            case "" | "identity":
                return body
            case "lz4":
                return _every_lz4_frame(body, bytes_max)
            case "gzip" | "deflate":
                return _inflated(body, bytes_max)
            case "zstd":
                reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX).stream_reader(
                    body, read_across_frames=True
                )
                data = reader.read(bytes_max + 1)
                if len(data) > bytes_max:
                    raise _too_large(bytes_max)
                return data
            case _:
                raise QueryError(_UNKNOWN_COMPRESSION, f"Unknown Content-Encoding {encoding[:32]!r}", status=400)
    except (RuntimeError, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise QueryError(_CANNOT_DECOMPRESS, f"The body is no {encoding}: {error}", status=400) from error


def _every_lz4_frame(body: bytes, bytes_max: int) -> bytes:
    """clickhouse-connect sends one frame a block: with only the first, rows would be lost under a status of 200."""
    parts: list[bytes] = []
    room = bytes_max
    while body:
        decompressor = lz4.frame.LZ4FrameDecompressor()
        part = decompressor.decompress(body, max_length=room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(bytes_max)
        if not decompressor.eof:
            raise EOFError("its last frame is cut")
        parts.append(part)
        body = decompressor.unused_data or b""
    return b"".join(parts)


def _inflated(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max
    while body:
        inflater = zlib.decompressobj(wbits=47)  # gzip or zlib, told by its first bytes
        part = inflater.decompress(body, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(bytes_max)
        if not inflater.eof:
            raise EOFError("its end is missing")
        parts.append(part)
        body = inflater.unused_data
    return b"".join(parts)


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """The text fields of a multipart form. Raises QueryError for a file among them (external data) or a broken form."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise QueryError(_BAD_ARGUMENTS, "A form without a boundary (BAD_ARGUMENTS)")
    fields: dict[str, str] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        if part.startswith(b"--"):
            return fields
        head, separator, value = part.partition(b"\r\n\r\n")
        disposition = BytesParser(policy=HTTP).parsebytes(head.strip() + b"\r\n\r\n")["content-disposition"]
        name = disposition.params.get("name") if disposition else None
        if not separator or not name:
            raise QueryError(_BAD_ARGUMENTS, "A form with a part that has no name (BAD_ARGUMENTS)")
        if "filename" in disposition.params:
            raise QueryError(_NOT_IMPLEMENTED, "External data is not served. (NOT_IMPLEMENTED)", status=501)
        fields[name] = value.decode("utf-8", "replace")
    raise QueryError(_BAD_ARGUMENTS, "A form whose end is missing (BAD_ARGUMENTS)")


def _too_large(bytes_max: int) -> QueryError:
    return QueryError(307, f"The body is larger than {bytes_max} bytes (TOO_MANY_BYTES)", status=413)
