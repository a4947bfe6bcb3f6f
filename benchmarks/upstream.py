"""The engine that the benchmark's servers stand in front of: answers OpenAI's API with fixed text at almost no cost.

python -m benchmarks.upstream PORT

A request tells it how to answer: `max_tokens` is the number of a stream's chunks and `seed` the milliseconds from one
to the next (0: all at once). Like an engine it goes by steps: in each, all streams of one pace get their next chunk.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import msgspec
import uvloop

_TAIL = b'"created":1767225600,"model":"bench","choices":[{"index":0,'
_USAGE = b'"usage":{"prompt_tokens":17,"total_tokens":67,"completion_tokens":50,"prompt_tokens_details":null}'
_WHOLE_BODY = (
    b'{"id":"cmp-00000000000000000000000000000000","object":"chat.completion",'
    + _TAIL
    + b'"message":{"role":"assistant",'
    b'"content":"Because what is measured is paid for, and a sum that is almost right is wrong."},"logprobs":null,'
    b'"finish_reason":"stop","matched_stop":null}],' + _USAGE + b"}"
)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_WHOLE_BODY),
    _WHOLE_BODY,
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNK_HEAD = b'data: {"id":"cmp-00000000000000000000000000000000","object":"chat.completion.chunk",'
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_CHUNK = _framed(
    _CHUNK_HEAD + _TAIL + b'"delta":{"role":"assistant","content":" exact"},"logprobs":null,"finish_reason":null,'
    b'"matched_stop":null}]}\n\n'
)
_STREAM_END = (
    _framed(
        _CHUNK_HEAD
        + _TAIL
        + b'"delta":{"content":null},"logprobs":null,"finish_reason":"stop","matched_stop":null}]}\n\n'
        + _CHUNK_HEAD
        + b'"created":1767225600,"model":"bench","choices":[],'
        + _USAGE
        + b"}\n\n"
        b"data: [DONE]\n\n"
    )
    + b"0\r\n\r\n"
)


class _Wanted(msgspec.Struct):
    stream: bool = False
    max_tokens: int = 1
    seed: int = 0


_wanted = msgspec.json.Decoder(_Wanted)


class _Steps:
    """All running streams of one pace."""

    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s
        self._streams: dict[asyncio.Transport, int] = {}
        self._due = 0.0

    def join(self, transport: asyncio.Transport, chunks: int) -> None:
        """`chunks` more chunks, then the end."""
        loop = asyncio.get_running_loop()
        if not self._streams:
            self._due = loop.time() + self._pace_s
            loop.call_at(self._due, self._step, loop)
        self._streams[transport] = chunks

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        for transport, left in list(self._streams.items()):
            if left and not transport.is_closing():
                transport.write(_CHUNK)
                self._streams[transport] = left - 1
            else:
                transport.write(_STREAM_END)
                del self._streams[transport]
        if self._streams:
            self._due += self._pace_s
            loop.call_at(self._due, self._step, loop)


class Upstream(asyncio.Protocol):
    """One connection; requests are read by their length and answered one after the other."""

    _steps: dict[int, _Steps]

    def __init__(self, steps: dict[int, _Steps]) -> None:
        self._steps = steps
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data if self._unread else data
        while (head_end := data.find(_HEAD_END)) >= 0:
            head = data[:head_end].lower()
            at = head.find(_LENGTH)
            length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            end = head_end + len(_HEAD_END) + length
            if len(data) < end:
                break
            self._answer(data[end - length : end])
            data = data[end:]
        self._unread = data

    def _answer(self, body: bytes) -> None:
        wanted = _wanted.decode(body) if body else _Wanted()
        if not wanted.stream:
            self._transport.write(_WHOLE)
        elif not wanted.seed:
            self._transport.write(_STREAM_HEAD + _CHUNK * wanted.max_tokens + _STREAM_END)
        else:
            self._transport.write(_STREAM_HEAD + _CHUNK)
            steps = self._steps.setdefault(wanted.seed, _Steps(wanted.seed / 1000))
            steps.join(self._transport, wanted.max_tokens - 1)


async def serve(port: int) -> asyncio.Server:
    """Listening on 127.0.0.1; 0 takes a free port."""
    steps: dict[int, _Steps] = {}
    return await asyncio.get_running_loop().create_server(lambda: Upstream(steps), "127.0.0.1", port, backlog=1024)


async def _main(port: int) -> None:
    server = await serve(port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
