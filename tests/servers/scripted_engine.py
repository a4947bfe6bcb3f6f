"""An upstream that answers exactly the bytes that a test scripts, cut where the test wants them cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Answering = Callable[["ReceivedRequest", asyncio.StreamWriter], Awaitable[None]]


class ReceivedRequest:
    """One request as the engine got it. `body` keeps JSON's last duplicate, as SGLang does."""

    def __init__(self, path: str, headers: dict[str, str], raw: bytes, connection: int) -> None:
        self.path = path
        self.headers = headers
        self.raw = raw
        self.connection = connection
        self.body: dict[str, Any] = json.loads(raw)


class ScriptedEngine:
    """`answering` writes the answer to each inference request; aborts are noted and answered."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.requests: list[ReceivedRequest] = []
        self.aborted: list[str] = []
        self.disconnects = 0
        self.port = 0
        self._connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)
                }
                raw = await reader.readexactly(int(headers["content-length"]))
                request = ReceivedRequest(lines[0].split(" ")[1], headers, raw, number)
                if request.path == "/abort_request":
                    self.aborted.append(request.body["rid"])
                    writer.write(whole(b"{}"))
                else:
                    self.requests.append(request)
                    await self.answering(request, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.disconnects += 1
        finally:
            self._writers.discard(writer)
            writer.close()

    def drop_idle(self) -> None:
        """Close every connection, as an engine does with idle ones."""
        for writer in list(self._writers):
            writer.close()


@asynccontextmanager
async def scripted_engine(answering: Answering) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(answering)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0, limit=1 << 25)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        engine.drop_idle()


def whole(body: bytes, status: int = 200) -> bytes:
    """An answer with a length."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stream_head() -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk; b"" is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def usage(prompt: int = 7, completion: int = 3, cached: int | None = None) -> dict[str, Any]:
    details = None if cached is None else {"cached_tokens": cached}
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
    }


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def chat_answer(request: ReceivedRequest, text: str = "hello", **counts: Any) -> bytes:
    return compact(
        {
            "id": request.body["rid"],
            "object": "chat.completion",
            "created": 1,
            "model": request.body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": usage(**counts),
        }
    )


def event(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def chat_chunk(id: str, model: str, text: str, index: int = 0, counts: dict[str, Any] | None = None) -> bytes:
    choice = {"index": index, "delta": {"role": None, "content": text}, "finish_reason": None}
    return event(
        {
            "id": id,
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": counts,
        }
    )


def usage_chunk(id: str, model: str, **counts: Any) -> bytes:
    return event(
        {
            "id": id,
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [],
            "usage": usage(**counts),
        }
    )


DONE = b"data: [DONE]\n\n"
