"""Who used up the time of a request that took too long: its engine, or a client that does not read."""

import asyncio
import socket
from pathlib import Path
from typing import cast

import pytest

from domain.outcome import unbilled_usage
from services.gateway.request_time import RequestTime
from services.gateway.settings import GatewaySettings
from tests.servers.gateway_in_process import InProcess, gateway_in_process, until
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_chunk,
    chunked,
    scripted_engine,
    stream_head,
    usage_chunk,
)

LIMITS = GatewaySettings(
    first_byte_timeout_s=50.0,
    between_bytes_timeout_s=20.0,
    request_timeout_s=100.0,
    client_pauses_timeout_s=30.0,
    abort_wait_s=10.0,
)


def _running() -> RequestTime:
    """A request whose first byte came at 0."""
    time = RequestTime(LIMITS, 0.0)
    time.bytes_came(0.0)
    return time


def _read_in_turns(time: RequestTime, begin: int, reads_s: int, pauses_s: int, turns: int) -> int:
    """The engine sends every second while the client reads; gives the time after all turns."""
    now = begin
    for _ in range(turns):
        for _ in range(reads_s):
            now += 1
            time.bytes_came(now)
        time.paused(now)
        now += pauses_s
        time.resumed(now)
    return now


def test_an_engine_has_its_whole_time_though_the_client_paused() -> None:
    time = _running()
    now = _read_in_turns(time, 0, reads_s=9, pauses_s=1, turns=10)
    assert now == 100 and time.used_up_by(now) is None, "ten of these seconds were the client's"
    for now in range(101, 110):
        time.bytes_came(now)
        assert time.used_up_by(now) is None
    time.bytes_came(110)
    assert time.used_up_by(110) == "engine", "a slow engine stays free, however often the client paused for a moment"


def test_a_client_that_pauses_again_and_again_has_used_up_its_time() -> None:
    time = _running()
    now = _read_in_turns(time, 0, reads_s=1, pauses_s=5, turns=5)
    assert time.used_up_by(now) is None
    time.paused(now)
    assert time.used_up_by(now + 4.9) is None
    assert time.used_up_by(now + 5) == "client"
    time.resumed(now + 5)
    assert time.used_up_by(now + 5) == "client", "also where it reads again at the moment that is looked at"


def test_while_the_client_does_not_read_no_engine_is_late() -> None:
    time = _running()
    time.bytes_came(90)
    time.paused(90)
    assert time.used_up_by(119) is None
    time.resumed(119)
    assert time.used_up_by(128) is None
    assert time.used_up_by(129) == "engine"


def test_a_silent_engine_is_late_once_the_client_reads_again() -> None:
    time = _running()
    time.paused(5)
    time.resumed(25)
    assert time.used_up_by(44) is None
    assert time.used_up_by(45) == "engine"


def test_the_last_report_is_awaited_though_all_other_time_is_used_up() -> None:
    time = _running()
    time.bytes_came(99)
    time.paused(99)
    time.parted(129)
    time.bytes_came(130)
    assert time.used_up_by(138) is None
    assert time.used_up_by(139) == "engine"


async def _read_slowly(made: InProcess, enough: asyncio.Event) -> None:
    """A client that never stands still and never catches up."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", made.port))
        await loop.sock_sendall(client, made.request(stream=True))
        while not enough.is_set():
            try:
                if not await loop.sock_recv(client, 4096):
                    return
            except ConnectionError:
                return
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_too_slowly_pays_and_its_engine_is_not_to_blame(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid, sent = request.body["rid"], 0
        writer.write(stream_head())
        while not engine.aborted:
            sent += 1
            writer.write(chunked(chat_chunk(rid, "public/m", "x" * 15_000)))
            await writer.drain()
        writer.write(chunked(usage_chunk(rid, "public/m", prompt=7, completion=sent)) + chunked(DONE) + chunked(b""))

    limits = {"request_timeout_s": 4.0, "client_pauses_timeout_s": 6.0}
    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **limits) as made:
        made.service(engine.port, 1)
        picked, other = made.gateway.routes.services["public/m"].instances
        other.in_flight += 1  # so that the engine is picked; alone it would never cool down
        enough = asyncio.Event()
        reading = asyncio.create_task(_read_slowly(made, enough))
        (end,) = await made.ended(within_s=120)
        enough.set()
        await reading
        assert (end.outcome, end.prompt_tokens) == ("client_gone", 7)
        assert end.completion_tokens is not None and end.completion_tokens > 0
        assert unbilled_usage(end) is None, "the client broke it off, so it pays up to there"
        assert set(engine.aborted) == {end.request_id}
        assert picked.cooled_until == 0, "one customer must not take a sound instance from the others"


async def test_a_slow_engine_is_free_though_its_client_paused_for_a_moment(tmp_path: Path) -> None:
    read_again = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        while not read_again.is_set():
            writer.write(chunked(chat_chunk(rid, "public/m", "x" * 15_000)))
            await writer.drain()
        while not engine.aborted:
            writer.write(chunked(chat_chunk(rid, "public/m", "y")))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, request_timeout_s=2.0) as made:
        made.service(engine.port, 1)
        picked, other = made.gateway.routes.services["public/m"].instances
        other.in_flight += 1
        reader, writer = await made.connect()
        transport = cast(asyncio.ReadTransport, writer.transport)
        writer.write(made.request(stream=True))
        async with asyncio.timeout(120):
            await reader.readuntil(b'"content":"x')
            transport.pause_reading()
            await until(lambda: any(each.paused_since is not None for each in made.gateway.connections))
            transport.resume_reading()
            read_again.set()
            while data := await reader.read(1 << 20):
                if b'"code":"upstream_timeout"' in data:
                    break
        writer.close()
        (end,) = await made.ended()
        assert end.outcome == "upstream_timeout" and unbilled_usage(end) == "upstream_timeout"
        assert picked.cooled_until > 0


@pytest.mark.parametrize("pause_s", [0.5, 1.0])
def test_both_clocks_together_bound_a_request(pause_s: float) -> None:
    time, now = _running(), 0.0
    bound_s = LIMITS.request_timeout_s + LIMITS.client_pauses_timeout_s
    while time.used_up_by(now) is None:
        time.paused(now)
        now += pause_s
        time.resumed(now)
        now += 0.5
        time.bytes_came(now)
        assert now <= bound_s + 2
