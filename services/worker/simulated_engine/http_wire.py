"""The little of HTTP that the engine needs on top of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 64 * 1024 * 1024
SERVER = (b"server", b"hydra-simulated-engine")
JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream; charset=utf-8")
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class ClientGone(Exception):
    """The client closed its connection before the request was whole."""


class BodyTooLarge(Exception):
    """The request's body is larger than `MAX_BODY_BYTES`."""


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
    return b"".join(parts)


async def answer(send: Send, status: int, body: bytes = b"", kind: tuple[bytes, bytes] = JSON) -> None:
    """Sends a whole answer."""
    headers = [SERVER, (b"content-length", str(len(body)).encode())]
    if body:
        headers.append(kind)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_half(send: Send, body: bytes) -> None:
    """Sends the head of a whole answer and half of its body; who returns then has the connection closed."""
    headers = [SERVER, JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def begin_stream(send: Send) -> None:
    """Sends the head of an answer in server-sent events."""
    await send({"type": "http.response.start", "status": 200, "headers": [SERVER, SSE]})


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None
