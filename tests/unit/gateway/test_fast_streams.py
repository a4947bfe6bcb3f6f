"""Streams that come faster than a beat: gathered, never held back for good, and ended like any other."""

import asyncio
from pathlib import Path
from typing import cast

from services.gateway.exchange import Exchange
from services.gateway.server import Gateway
from tests.servers.gateway_in_process import gateway_in_process, until
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_chunk,
    chunked,
    scripted_engine,
    stream_head,
    usage_chunk,
)

END_OF_STREAM = b"data: [DONE]\n\n\r\n0\r\n\r\n"


def _content(number: int) -> bytes:
    return f'"content":"{number},"'.encode()


async def test_every_chunk_arrives_though_nothing_follows_it(tmp_path: Path) -> None:
    arrived = [asyncio.Event() for _ in range(20)]

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        for number, seen in enumerate(arrived):
            writer.write(chunked(chat_chunk(rid, "public/m", f"{number},")))
            await seen.wait()
        writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, coalesce_ms=50) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True))
        async with asyncio.timeout(60):
            for number, seen in enumerate(arrived):
                await reader.readuntil(_content(number))
                seen.set()
            await reader.readuntil(END_OF_STREAM)
        writer.close()
        (end,) = await made.ended()
        assert end.outcome == "completed"


async def test_a_client_that_leaves_a_fast_stream_pays_what_the_engine_then_reports(tmp_path: Path) -> None:
    aborted = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        while not aborted.is_set():
            writer.write(chunked(chat_chunk(rid, "public/m", "x")))
            await asyncio.sleep(0.001)
        writer.write(chunked(usage_chunk(rid, "public/m", prompt=7, completion=5)) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, coalesce_ms=100) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True))
        async with asyncio.timeout(60):
            await reader.readuntil(b'"content":"x"')
        writer.close()
        await until(lambda: engine.aborted)
        aborted.set()
        (end,) = await made.ended()
        assert (end.outcome, end.completion_tokens) == ("client_gone", 5)
        assert made.gateway.in_flight == 0


async def test_a_fast_stream_waits_for_a_client_that_does_not_read_and_loses_nothing(tmp_path: Path) -> None:
    chunks = 3_000
    filling = "z" * 2_000

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        for number in range(chunks):
            writer.write(chunked(chat_chunk(rid, "public/m", f"{number},{filling}")))
            await writer.drain()
        writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, coalesce_ms=5) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        transport = cast(asyncio.ReadTransport, writer.transport)
        writer.write(made.request(stream=True))
        async with asyncio.timeout(120):
            await reader.readuntil(b'"content":"0,')
            transport.pause_reading()
            await until(lambda: any(each.paused_since is not None for each in made.gateway.connections))
            transport.resume_reading()
            raw = await reader.readuntil(END_OF_STREAM)
        writer.close()
        positions = [raw.index(f'"content":"{number},z'.encode()) for number in range(1, chunks)]
        assert positions == sorted(positions)


async def test_a_stream_at_rest_is_not_read_on_while_its_client_does_not_read(tmp_path: Path) -> None:
    """The beat that ends a rest must not end the pause of a client that stopped reading meanwhile."""
    filling = "z" * 20_000
    enough = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        while not enough.is_set():
            writer.write(chunked(chat_chunk(rid, "public/m", filling)))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, coalesce_ms=20) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        transport = cast(asyncio.ReadTransport, writer.transport)
        writer.write(made.request(stream=True))
        async with asyncio.timeout(120):
            await reader.readuntil(b'"content":"z')
            transport.pause_reading()
            await until(lambda: any(each.paused_since is not None for each in made.gateway.connections))
            (connection,) = made.gateway.connections
            assert connection.transport is not None
            # It pauses within a rest or between two, as it happens. Now it rests for certain.
            made.gateway.pace.rest(cast(Exchange, connection.exchange))
            unsent = connection.transport.get_write_buffer_size()
            for _ in range(10):
                await _next_beat(made.gateway)
            assert connection.paused_since is not None
            assert connection.transport.get_write_buffer_size() <= unsent, "read on for a client that does not read"
            enough.set()
            transport.resume_reading()
            await reader.readuntil(END_OF_STREAM)
        writer.close()
        (end,) = await made.ended()
        assert end.outcome == "completed"


async def _next_beat(gateway: Gateway) -> None:
    """Wait until the streams that rest now have been told to read on."""
    told = asyncio.Event()

    class AtRest:
        def rest_over(self) -> None:
            told.set()

    gateway.pace.rest(AtRest())
    await told.wait()
    await asyncio.sleep(0)
