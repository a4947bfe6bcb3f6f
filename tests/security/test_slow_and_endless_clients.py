"""Clients that send or read byte by byte, or never end: bounded in time and memory, and others are served meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from uvicorn._types import ASGIApplication

from adapters import health, http_service, open_files
from adapters.health import HealthServer
from adapters.http_bounds import BoundedHttp, bounded_http
from services.clickhouse.settings import ClickHouseSettings
from tests.security.conftest import Control
from tests.servers.clickhouse import ClickHouseProcess

WITHIN_S = 120
MORE_THAN_FULL = 40
KEPT = 50
CHUNKED = b" / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LIVE_CHUNKED = b"GET" + CHUNKED.replace(b"/", b"/health/live", 1)
MORE = b"a" * 65_536
TRAILERS = b"X: abcdef\r\n" * 6_000
# (what it begins with, what comes again and again).
UNENDING = {
    "header": (b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: ", MORE),
    "header's name": (b"GET /health/live HTTP/1.1\r\nHost: a\r\n", MORE),
    "path": (b"GET /", MORE),
    "trailer": (LIVE_CHUNKED + b"0\r\nX: ", MORE),
    "trailers": (LIVE_CHUNKED + b"0\r\n", TRAILERS),
    "chunk's extension": (LIVE_CHUNKED + b"1;x=", MORE),
}


@asynccontextmanager
async def served(
    answer_bytes: int = 2, read_timeout_s: float = 0.5, write_timeout_s: float = 0.5
) -> AsyncIterator[tuple[int, list[str], Callable[[], int]]]:
    """An application behind our protocol: it reads the body, then answers. Its port, what it saw, and how many
    connections are open."""
    seen: list[str] = []

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        seen.append(message["type"])
        length = str(answer_bytes).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": b"x" * answer_bytes})

    protocol = bounded_http(read_timeout_s=read_timeout_s, write_timeout_s=write_timeout_s)
    async with serving(app, protocol) as (port, server):
        yield port, seen, lambda: len(server.server_state.connections)


@asynccontextmanager
async def serving(
    app: ASGIApplication, protocol: type[BoundedHttp], connections_max: int | None = None
) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            lifespan="off",
            log_config=None,
            http=protocol,
            limit_concurrency=connections_max,
            timeout_graceful_shutdown=1,
        )
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1], server
    finally:
        server.should_exit = True
        await running


async def said_until_closed(port: int, sent: bytes) -> bytes:
    """What comes back until the server ends the connection; the client sends `sent` and then nothing, and stays."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(WITHIN_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY_BEGUN = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"


async def test_a_connection_that_says_nothing_and_a_head_that_does_not_end_are_closed() -> None:
    async with served() as (port, seen, _):
        for begun in (b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-"):
            assert (await said_until_closed(port, begun)).startswith(b"HTTP/1.1 408 ")
        assert seen == []


async def test_a_second_head_on_a_connection_is_bounded_like_the_first() -> None:
    async with served() as (port, seen, _):
        said = await said_until_closed(port, WHOLE + b"GET / HTTP/1.1\r\nX-")
        assert said.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in said
        assert seen == ["http.request"]


async def test_a_body_that_does_not_end_is_a_client_that_has_gone() -> None:
    async with served() as (port, seen, _):
        assert await said_until_closed(port, BODY_BEGUN) == b""
        assert seen == ["http.disconnect"]


async def test_a_client_that_reads_nothing_is_let_go() -> None:
    async with served(answer_bytes=64 << 20, read_timeout_s=WITHIN_S) as (port, seen, connections):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(WHOLE)
        async with asyncio.timeout(WITHIN_S):
            while not seen or connections():
                await asyncio.sleep(0.05)
        writer.close()


async def test_a_request_that_is_whole_is_in_nobodys_time() -> None:
    """An answer may take longer than a client has to send."""
    release = asyncio.Event()

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await receive()
        await release.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=bounded_http(read_timeout_s=0.2))
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
    writer.write(WHOLE)
    await asyncio.sleep(1)
    release.set()
    async with asyncio.timeout(WITHIN_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    writer.close()
    server.should_exit = True
    await serving


async def endless(port: int, begun: bytes, more: bytes) -> int:
    """The bytes that a server takes of something that does not end, before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = 0
    try:
        async with asyncio.timeout(WITHIN_S):
            writer.write(begun)
            while not reader.at_eof() and taken < 64 << 20:
                writer.write(more)
                await writer.drain()
                taken += len(more)
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return taken


@pytest.mark.parametrize(("begun", "more"), UNENDING.values(), ids=UNENDING.keys())
async def test_no_server_takes_in_a_head_or_trailers_that_do_not_end(
    control: Control, clickhouse_server: ClickHouseProcess, begun: bytes, more: bytes
) -> None:
    health = HealthServer("127.0.0.1", 0, lambda: (True, ""))
    await health.start()
    ports = [int(one.url.rsplit(":", 1)[1]) for one in control.services.values()]
    for port in (*ports, clickhouse_server.port, health.port):
        # The kernel's buffers on both sides take some megabytes more than the server does.
        assert await endless(port, begun, more) < 32 << 20
    await health.stop()


@pytest.mark.parametrize("method", [b"POST", b"GET"])
@pytest.mark.parametrize(("begun", "more"), [(b"0\r\nX: ", MORE), (b"0\r\n", TRAILERS), (b"1;x=", MORE)])
async def test_trailers_that_do_not_end_are_a_client_that_has_gone(method: bytes, begun: bytes, more: bytes) -> None:
    """Though an application waits for the body's end, and the time to send is not over."""
    async with served(read_timeout_s=2 * WITHIN_S) as (port, seen, connections):
        assert await endless(port, method + CHUNKED + begun, more) < 32 << 20
        async with asyncio.timeout(WITHIN_S):
            while not seen or connections():
                await asyncio.sleep(0.05)
        assert seen == ["http.disconnect"]


async def test_small_chunks_are_no_trailers() -> None:
    """Their framing is many times what a head may have, and yet they are a body."""
    async with served(read_timeout_s=WITHIN_S) as (port, seen, _):
        sent = b"POST" + CHUNKED + b"1\r\na\r\n" * 100_000 + b"0\r\nX: a\r\n\r\n" + LAST
        assert (await said_until_closed(port, sent)).count(b"HTTP/1.1 200 ") == 2
        assert seen == ["http.request"] * 2


async def test_no_application_sees_a_trailer_as_a_header() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        while (await receive()).get("more_body"):
            pass
        seen.append(list(scope["headers"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app, bounded_http()) as (port, _):
        sent = b"POST" + CHUNKED + b"0\r\nAuthorization: Bearer other\r\n\r\n" + LAST
        assert (await said_until_closed(port, sent)).count(b"HTTP/1.1 204 ") == 2
    assert seen[0] == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


async def test_many_slow_clients_keep_nobody_out_and_are_closed(
    control: Control, clickhouse_server: ClickHouseProcess
) -> None:
    """At the real processes, and the server of streams and agent, with the bounds that they are shipped with: more than
    fill one after the other, of which some are kept until they are closed for being slow. The gateway's bound is tried
    in tests/unit/gateway/test_open_files.py and tests/integration/gateway/test_open_files.py."""
    open_files.raise_limit()  # the clients are in this process
    streams_and_agent = HealthServer("127.0.0.1", 0, lambda: (True, ""))
    await streams_and_agent.start()
    full = {int(one.url.rsplit(":", 1)[1]): http_service.CONNECTIONS_MAX for one in control.services.values()}
    full |= {
        clickhouse_server.port: ClickHouseSettings().connections_max,
        streams_and_agent.port: health.CONNECTIONS_MAX,
    }
    kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for port, connections_max in full.items():
        # ClickHouse refuses a stranger before the body: what is left then is an idle connection.
        if port != clickhouse_server.port:
            kept += await slow_connections(port, KEPT, BEGINNINGS[2:])
        # These stay: a body is answered before its end, and then its connection may be closed soon.
        held = await slow_connections(port, connections_max + MORE_THAN_FULL, BEGINNINGS[:2])
        async with httpx.AsyncClient(timeout=60) as client:
            for path in ("/health/live", "/metrics"):
                answer = await client.get(f"http://127.0.0.1:{port}{path}")
                assert answer.status_code == 200, (path, full[port])
        kept += held[-KEPT:]
        for _, writer in held[:-KEPT]:
            writer.close()
    await asyncio.gather(*(until_closed(reader, writer) for reader, writer in kept))
    await streams_and_agent.stop()


BEGINNINGS = (
    b"",
    b"GET /health/live HTTP/1.1\r\nX: ",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
)


async def slow_connections(
    port: int, count: int, kinds: tuple[bytes, ...]
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """So many that have begun in these ways and go no further."""
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for number, (_, writer) in enumerate(held):
        writer.write(kinds[number % len(kinds)])
    return held


async def test_requests_that_run_give_way_to_nobody_and_bodies_that_do_not_come_do() -> None:
    release = asyncio.Event()

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        if scope["path"] == "/slow":
            await release.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app, bounded_http(read_timeout_s=WITHIN_S), connections_max=5) as (port, _):
        running = await slow_connections(port, 3, (WHOLE.replace(b"/", b"/slow", 1),))
        held = await slow_connections(port, 9, BEGINNINGS)
        said = await said_until_closed(port, LAST)
        assert said.startswith(b"HTTP/1.1 204 ")
        release.set()
        for reader, writer in running:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
            writer.close()
        for _, writer in held:
            writer.close()


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(WITHIN_S):
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        finally:
            writer.close()
