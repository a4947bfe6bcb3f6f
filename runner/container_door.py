"""What answers in a container in the place of a process that has stopped on purpose.

So `hydra status` tells why it is not ready, and not that nobody is there. Whoever calls gets the same answer, and as
long as this takes; nobody can keep others from theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator

from runner.container_place import ANSWERS_HALTED, EVERY_ADDRESS

CALLER_WITHIN_S = 5.0
"""For a caller's whole request and answer, however it comes."""
CALLERS_MAX = 64
HEAD_BYTES_MAX = 16_384
SENT_AWAY_WITHIN_S = 1.0


@contextlib.asynccontextmanager
async def answering_halted(port: int | None, reason: str) -> AsyncIterator[None]:
    """Answers at the port until the end of the block. Without a port, or where it cannot be had, nobody is told."""
    door = _Door(reason)
    server = None
    try:
        if port is not None:
            server = await asyncio.start_server(door.answer, EVERY_ADDRESS, port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        print(f"container: port {port} cannot be had, so it tells nobody: {error}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if server is not None:
            server.close()
        await door.close()


class _Door:
    """Callers side by side. When all places are taken the oldest caller goes: one in earnest is never so old."""

    def __init__(self, reason: str) -> None:
        content = json.dumps({"status": ANSWERS_HALTED, "reason": reason}).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        self._answer = head.encode() + content
        self._callers: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads one request's head, answers it and closes the connection, all within the bound."""
        if len(self._callers) >= CALLERS_MAX:
            oldest = next(iter(self._callers))
            del self._callers[oldest]
            oldest.transport.abort()
        self._callers[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(CALLER_WITHIN_S):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()
        finally:
            self._callers.pop(writer, None)

    async def close(self) -> None:
        """Sends away whoever is still there."""
        tasks = [task for task in self._callers.values() if task is not None]
        for writer in self._callers:
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=SENT_AWAY_WITHIN_S)
