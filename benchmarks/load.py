"""A load of keep-alive HTTP/1.1 connections, each with one request at a time. Its own cost is not measured."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(frozen=True)
class Target:
    """One address and the request that every connection sends again and again."""

    host: str
    port: int
    request: bytes


@dataclass
class Times:
    """Of one load, in seconds: `took` in all; each request's time to its answer's first and last body byte."""

    took_s: float = 0.0
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


def post(host: str, port: int, path: str, body: bytes, key: str) -> Target:
    """A POST of JSON with a Bearer key."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Target(host, port, head.encode() + body)


class _Connection(asyncio.Protocol):
    def __init__(self, target: Target, budget: list[int], times: Times, done: asyncio.Future[None]) -> None:
        self._target = target
        self._budget = budget
        self._times = times
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter()

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self._parser.get_status_code() != 200:
            self._fail(f"status {self._parser.get_status_code()}")
            return
        self._times.first.append((self._first or now) - self._sent)
        self._times.whole.append(now - self._sent)
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
        self._first = 0.0
        self._sent = time.perf_counter()
        self._transport.write(self._target.request)

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"the load broke off: {why}"))


async def run(target: Target, connections: int, requests: int) -> Times:
    """Send `requests` in all; raises RuntimeError at the first answer that is not 200."""
    loop = asyncio.get_running_loop()
    budget = [requests]
    times = Times()
    finished: list[asyncio.Future[None]] = []
    began = time.perf_counter()
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        finished.append(done)
        await loop.create_connection(
            lambda done=done: _Connection(target, budget, times, done),  # type: ignore[misc]
            target.host,
            target.port,
        )
    await asyncio.gather(*finished)
    times.took_s = time.perf_counter() - began
    return times
