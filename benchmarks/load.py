"""A load of keep-alive HTTP/1.1 connections, each with one request at a time. Its own cost is not measured."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httptools


@dataclass(frozen=True)
class Target:
    """One address and the request that every connection sends again and again."""

    host: str
    port: int
    request: bytes


def post(host: str, port: int, path: str, body: bytes, key: str) -> Target:
    """A POST of JSON with a Bearer key."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Target(host, port, head.encode() + body)


class _Connection(asyncio.Protocol):
    def __init__(self, target: Target, budget: list[int], done: asyncio.Future[None]) -> None:
        self._target = target
        self._budget = budget
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._fail(f"status {self._parser.get_status_code()}")
            return
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"connection lost: {error}")

    def _next(self) -> None:
        assert self._transport is not None
        if self._budget[0] <= 0:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._budget[0] -= 1
        self._transport.write(self._target.request)

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"the load broke off: {why}"))


async def run(target: Target, connections: int, requests: int) -> None:
    """Send `requests` in all; raises RuntimeError at the first answer that is not 200."""
    loop = asyncio.get_running_loop()
    budget = [requests]
    finished: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        finished.append(done)
        await loop.create_connection(lambda done=done: _Connection(target, budget, done), target.host, target.port)  # type: ignore[misc]
    await asyncio.gather(*finished)
