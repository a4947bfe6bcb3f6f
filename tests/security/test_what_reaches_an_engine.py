"""However a client writes its request, an engine receives exactly one sound request for each metered one, or none."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
import zstandard

from tests.security.recording_upstream import Recorded, recording_upstream
from tests.servers.gateway_in_process import InProcess, gateway_in_process

BODY = b'{"model":"public/m","messages":[{"role":"user","content":"hi"}]}'
SECOND = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Recorded]:
    async with recording_upstream() as recorded:
        yield recorded


@pytest_asyncio.fixture
async def made(tmp_path: Path, engine: Recorded) -> AsyncIterator[InProcess]:
    async with gateway_in_process(tmp_path, request_read_timeout_s=5.0, idle_timeout_s=1.0) as gateway:
        gateway.service(engine.port)
        yield gateway


def chunks(*parts: bytes, size: str = "{:x}", end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(size.format(len(part)).encode() + b"\r\n" + part + b"\r\n" for part in parts) + end


def request(key: str, lines: bytes, body: bytes, start: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return start + b"\r\nHost: a\r\nAuthorization: Bearer " + key.encode() + b"\r\n" + lines + b"\r\n" + body


LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HALVES = (BODY[:20], BODY[20:])
# (headers, body): what a parser at the engine might read as two requests, or as another one.
ODD: dict[str, tuple[bytes, bytes]] = {
    "a length": (LENGTH, BODY),
    "chunks": (CHUNKED, chunks(*HALVES)),
    "chunks of one byte": (CHUNKED, chunks(*(bytes([byte]) for byte in BODY))),
    "chunk sizes with zeros": (CHUNKED, chunks(*HALVES, size="000{:x}")),
    "chunk sizes in capitals": (CHUNKED, chunks(BODY, size="{:X}")),
    "a chunk extension": (CHUNKED, chunks(*HALVES, size="{:x};name=value")),
    "a quoted chunk extension": (CHUNKED, chunks(*HALVES, size='{:x};name="a;b"')),
    "a chunk extension with a line feed": (CHUNKED, chunks(*HALVES, size="{:x};a\n")),
    "a chunk size of too many digits": (CHUNKED, chunks(*HALVES, size="f" * 17 + "{:x}")),
    "a chunk size with a sign": (CHUNKED, chunks(*HALVES, size="+{:x}")),
    "a chunk size with 0x": (CHUNKED, chunks(*HALVES, size="0x{:x}")),
    "a chunk size with a blank": (CHUNKED, chunks(*HALVES, size=" {:x}")),
    "a chunk ended by a line feed": (CHUNKED, chunks(*HALVES).replace(b"\r\n", b"\n")),
    "a chunk longer than it says": (CHUNKED, b"3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "no last chunk": (CHUNKED, chunks(*HALVES, end=b"")),
    "trailers": (CHUNKED, chunks(*HALVES, end=b"0\r\nX-Trailer: a\r\n\r\n")),
    "a length among the trailers": (CHUNKED, chunks(*HALVES, end=b"0\r\nContent-Length: 5\r\n\r\n")),
    "a trailer that is no header": (CHUNKED, chunks(*HALVES, end=b"0\r\n" + SECOND + b"\r\n")),
    "chunked in capitals": (b"TRANSFER-ENCODING: CHUNKED\r\n", chunks(*HALVES)),
    "chunked behind a tab": (b"Transfer-Encoding:\tchunked\r\n", chunks(*HALVES)),
    "chunked with a blank behind": (b"Transfer-Encoding: chunked \r\n", chunks(*HALVES)),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"\r\n', chunks(*HALVES)),
    "chunked with a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", chunks(*HALVES)),
    "chunked with an underscore": (b"Transfer_Encoding: chunked\r\n" + LENGTH, BODY),
    "a length and a coding": (LENGTH + CHUNKED, BODY),
    "a coding and a length": (CHUNKED + LENGTH, chunks(*HALVES)),
    "two lengths": (LENGTH + b"Content-Length: 3\r\n", BODY),
    "a length with zeros": (b"Content-Length: 000%d\r\n" % len(BODY), BODY),
    "a negative length": (b"Content-Length: -1\r\n", BODY),
    "a length beyond 64 bits": (b"Content-Length: 18446744073709551617\r\n", BODY),
    "a folded length": (b"Content-Length:\r\n %d\r\n" % len(BODY), BODY),
    "a name with a blank": (b"Content-Length : %d\r\n" % len(BODY), BODY),
    "a name with a zero byte": (b"Content\x00-Length: 3\r\n" + LENGTH, BODY),
    "a line without a colon": (b"Nonsense\r\n" + LENGTH, BODY),
    "no length at all": (b"", BODY),
    "a length shorter than the body": (b"Content-Length: 5\r\n", BODY),
    "a length of nothing": (b"Content-Length: 0\r\n", BODY),
    "an upgrade": (b"Connection: upgrade, keep-alive\r\nUpgrade: websocket\r\n" + LENGTH, BODY),
    "hop-by-hop of ours": (b"Connection: authorization, content-length\r\n" + LENGTH, BODY),
    "headers of a proxy": (b"X-Forwarded-For: 1\r\nX-Forwarded-Host: b\r\nForwarded: host=b\r\n" + LENGTH, BODY),
    "an engine's own headers": (b"X-Data-Parallel-Rank: 0\r\nX-SMG-Routing-Key: a\r\nCookie: a=b\r\n" + LENGTH, BODY),
    "a header's value split by a line feed": (b"X-A: b\nX-B: c\r\n" + LENGTH, BODY),
    "gzip": (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(gzip.compress(BODY)), gzip.compress(BODY)),
}
STARTS = [
    b"POST http://127.0.0.1:1/v1/chat/completions HTTP/1.1",
    b"POST http://evil.example/v1/chat/completions HTTP/1.1",
    b"POST //127.0.0.1:1/v1/chat/completions HTTP/1.1",
    b"POST /v1/../abort_request HTTP/1.1",
    b"POST /v1/chat/completions/../../abort_request HTTP/1.1",
    b"POST /abort_request HTTP/1.1",
    b"POST /v1/chat/completions?x=/abort_request HTTP/1.1",
    b"POST /v1/chat/completions#x HTTP/1.1",
    b"POST /v1%2fchat%2fcompletions HTTP/1.1",
    b"POST /v1/chat/completions%0d%0aX:%20y HTTP/1.1",
    b"POST /v1/chat/completions HTTP/1.1 HTTP/1.1",
    b"POST  /v1/chat/completions HTTP/1.1",
    b"POST\t/v1/chat/completions HTTP/1.1",
    b"GET /v1/chat/completions HTTP/1.1",
    b"CONNECT 127.0.0.1:1 HTTP/1.1",
    b"TRACE /v1/chat/completions HTTP/1.1",
    b"post /v1/chat/completions HTTP/1.1",
    b"POST * HTTP/1.1",
]


async def all_said(made: InProcess, sent: bytes) -> bytes:
    """Everything that comes back until the gateway closes the connection, which it does when nothing more comes."""
    reader, writer = await made.connect()
    writer.write(sent)
    async with asyncio.timeout(120):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@dataclass(frozen=True)
class Metered:
    """What came of one connection: how many requests reached the engine, how many usage events, how many answers."""

    reached: int
    charged: int
    answered: int

    @property
    def agree(self) -> bool:
        return self.reached == self.charged == self.answered


async def metered(made: InProcess, engine: Recorded, write: Callable[[str], bytes]) -> Metered:
    """Sends what `write` makes of a key of its own, until the gateway closes. The engine is told the account."""
    account, key = made.customer()
    said = await all_said(made, write(key))
    return Metered(
        reached=len([one for one in engine.requests if one.body["cache_salt"] == account]),
        charged=len([end for end in made.ends() if end.account == account and end.outcome == "completed"]),
        answered=said.count(b"HTTP/1.1 200 "),
    )


async def test_one_metered_request_is_one_request_at_the_engine(made: InProcess, engine: Recorded) -> None:
    # Behind each there is a stranger's, which must not reach the engine in any case.
    stranger = SECOND + LENGTH + b"\r\n" + BODY
    asked = [
        metered(made, engine, lambda key, odd=odd, end=end: request(key, *odd) + end)  # type: ignore[misc]
        for odd in ODD.values()
        for end in (b"", stranger)
    ]
    names = [f"{name}, {'a stranger behind' if end else 'alone'}" for name in ODD for end in (0, 1)]
    found = dict(zip(names, await asyncio.gather(*asked), strict=True))
    assert engine.wrong == []
    assert {name: one for name, one in found.items() if not one.agree or one.reached > 1} == {}
    for received in engine.requests:
        assert received.body["messages"] == [{"role": "user", "content": "hi"}]
        assert received.headers["host"] == f"127.0.0.1:{engine.port}"
        assert "sk-" not in str(received.headers)
    # So that this does not pass by refusing everything.
    served = {name.split(",")[0] for name, one in found.items() if one.reached == 1}
    assert served >= {"a length", "chunks", "chunks of one byte", "a chunk extension", "trailers", "headers of a proxy"}


async def test_a_second_request_that_is_paid_for_is_served_and_metered(made: InProcess, engine: Recorded) -> None:
    both = await metered(made, engine, lambda key: request(key, *ODD["chunks"]) + request(key, *ODD["a length"]))
    assert both == Metered(reached=2, charged=2, answered=2)


async def test_the_path_at_the_engine_is_ours(made: InProcess, engine: Recorded) -> None:
    asked = [
        metered(made, engine, lambda key, start=start: request(key, LENGTH, BODY, start))  # type: ignore[misc]
        for start in STARTS
    ]
    found = dict(zip(STARTS, await asyncio.gather(*asked), strict=True))
    assert engine.wrong == []
    assert {start: one for start, one in found.items() if not one.agree} == {}
    assert {received.path for received in engine.requests} <= {"/v1/chat/completions"}


async def test_no_body_is_unpacked(made: InProcess, engine: Recorded) -> None:
    """A bomb is as small here as it was sent: what is not JSON as it stands is refused."""
    bomb = b'{"model":"public/m","messages":[{"role":"user","content":"' + b"a" * 4_000_000 + b'"}]}'
    for packed in (gzip.compress(bomb), zlib.compress(bomb), zstandard.compress(bomb), b"\x1b" + BODY):
        for encoding in (b"gzip", b"deflate", b"zstd", b"br", b"identity", b"gzip, gzip"):
            lines = b"Content-Encoding: " + encoding + b"\r\nContent-Length: %d\r\n" % len(packed)
            assert (await made.ask(request(made.key, lines, packed))).status == 400, encoding
    assert engine.requests == []


UNREAD = {"api_base", "base_url", "azure_endpoint", "custom_llm_provider", "api_key", "extra_headers"}
"""Words of client libraries, with which other gateways let a caller choose the host that they call."""


async def test_no_field_of_a_body_makes_anybody_call_another_host(made: InProcess, engine: Recorded) -> None:
    reached: list[bytes] = []

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1_000))
        writer.close()

    listening = await asyncio.start_server(canary, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    fields: list[dict[str, Any]] = [
        {name: url}
        for name in ("api_base", "base_url", "azure_endpoint", "custom_llm_provider", "api_key", "bootstrap_host")
    ]
    fields += [{"model": model} for model in (url, f"openai/{url}", f"public/m@127.0.0.1:{port}", "public/m\r\nX: y")]
    fields += [{"messages": [picture]}, {"extra_headers": {"Host": f"127.0.0.1:{port}"}}, {"lora_path": url}]
    fields += [
        {"messages": [{**picture, "content": [{"type": kind, kind: {"url": url}}]}]}
        for kind in ("video_url", "audio_url")
    ]
    known = {"model": "public/m", "messages": [{"role": "user", "content": "hi"}]}
    for extra in fields:
        body = json.dumps(known | extra).encode()
        lines = f"Host-Override: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n".encode()
        answer = await made.ask(request(made.key, lines, body))
        # What is no field of an engine's is passed on for it to leave unread; what it would act on is refused.
        unread = set(extra) <= UNREAD
        assert answer.status == 200 if unread else answer.status in (400, 404), (extra, answer.body)
    listening.close()
    assert (reached, engine.wrong) == ([], [])
