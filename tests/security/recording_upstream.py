"""An upstream that keeps every byte that it was sent, and reads requests as strictly as the standard allows."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.servers.scripted_engine import ReceivedRequest, chat_answer, whole

_START = re.compile(rb"POST /v1/(chat/completions|completions) HTTP/1\.1\r\n")
_HEADER = re.compile(rb"([a-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)\r\n")


@dataclass
class Recorded:
    """`requests` are those that were understood; `wrong` is whatever else came, with the reason."""

    port: int = 0
    connections: int = 0
    requests: list[ReceivedRequest] = field(default_factory=list)
    wrong: list[tuple[str, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await self._head(reader):
                request = await self._request(head, reader)
                if request is None:
                    return
                self.requests.append(request)
                writer.write(whole(chat_answer(request)))
                await writer.drain()
                # Whatever follows at once was sent before this answer: nobody pipelines to an engine.
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            if cut.partial:
                self.wrong.append(("bytes that are no request", cut.partial))
            return b""

    async def _request(self, head: bytes, reader: asyncio.StreamReader) -> ReceivedRequest | None:
        start = _START.match(head)
        if start is None:
            self.wrong.append(("another start line", head))
            return None
        headers: dict[str, str] = {}
        at = start.end()
        while at < len(head) - 2:
            line = _HEADER.match(head, at)
            if line is None or line.group(1).decode() in headers:
                self.wrong.append(("a header that is malformed or there twice", head))
                return None
            headers[line.group(1).decode()] = line.group(2).decode()
            at = line.end()
        if set(headers) != {"host", "authorization", "content-type", "content-length"}:
            self.wrong.append(("other headers than ours", head))
            return None
        raw = await reader.readexactly(int(headers["content-length"]))
        return ReceivedRequest(head.split(b" ")[1].decode(), headers, raw, self.connections)


@asynccontextmanager
async def recording_upstream() -> AsyncIterator[Recorded]:
    """Listening until the end of the block."""
    recorded = Recorded()
    server = await asyncio.start_server(recorded.serve, "127.0.0.1", 0, limit=1 << 20)
    recorded.port = server.sockets[0].getsockname()[1]
    try:
        yield recorded
    finally:
        server.close()
