"""Few open files: the gateway takes what fits, and its own want of one is no fault of an engine's."""

import asyncio
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from adapters import open_files
from adapters.errors import Misconfigured
from services.gateway.open_files import OTHER_FILES, backlog, within_limit
from services.gateway.settings import GatewaySettings
from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, scripted_engine, whole

ROOT = Path(__file__).parents[3]
LOWERED = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
def show(*_):
    print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""
A_SERVICE = """
from adapters.process import run_process
async def serve(platform): show()
run_process("gateway", serve)
"""
A_STREAM = """
from adapters.errors import Misconfigured
from streams.stream_process import run_stream
from streams.warehouse.settings import WarehouseSettings
def build(*_):
    show()
    raise Misconfigured("seen")
run_stream("warehouse", WarehouseSettings, build)
"""


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open none within."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.open(os.devnull, os.O_RDONLY)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("start", [A_SERVICE, A_STREAM], ids=["service", "stream"])
def test_a_process_may_open_as_many_files_as_it_is_allowed_to(start: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")}
    done = subprocess.run(
        [sys.executable, "-c", LOWERED + start], cwd=ROOT, env=kept, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("limit", [600, 1024, 4096, 10_240])
def test_it_takes_as_much_as_its_files_carry_and_says_so_once(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    settings = GatewaySettings()
    lowered = within_limit(settings, limit)
    segments = settings.spool_bytes_max // settings.spool_segment_bytes
    held = lowered.connections_max + backlog(lowered.connections_max) + lowered.in_flight_max + segments + OTHER_FILES
    assert 0.9 * limit < held < limit
    assert 1 <= lowered.in_flight_max < lowered.connections_max, "somebody can always give way"
    (record,) = caplog.records
    said = record.getMessage()
    assert record.levelname == "WARNING" and f"the limit is {limit}:" in said
    assert "HYDRA_GATEWAY_CONNECTIONS_MAX=10000" in said and "HYDRA_GATEWAY_IN_FLIGHT_MAX=4096" in said


def test_with_files_enough_everything_is_as_it_is_set(caplog: pytest.LogCaptureFixture) -> None:
    settings = GatewaySettings()
    assert within_limit(settings, 1 << 16) is settings and not caplog.records


def test_with_hardly_a_file_it_does_not_start() -> None:
    with pytest.raises(Misconfigured, match="raise the limit to 15"):
        within_limit(GatewaySettings(), 256)


async def test_an_engine_that_could_not_be_asked_for_want_of_files_stays_in_use(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        (instance,) = made.gateway.routes.instances
        reader, writer = await made.connect()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        with no_more_files():
            writer.write(made.request())
            refused = await read_answer(reader)
        assert (refused.status, refused.error["code"]) == (503, "out_of_files") and "retry-after" in refused.headers
        assert instance.cooled_until == 0.0 and instance.in_flight == 0
        writer.write(made.request())
        assert (await read_answer(reader)).status == 200
        writer.close()
    assert [(end.outcome, end.status, end.error_code) for end in made.ends()] == [
        ("refused", 503, "out_of_files"),
        ("completed", 200, None),
    ]
    shown = made.gateway.metrics.exposition(made.gateway).decode()
    assert 'hydra_gateway_refusals_total{code="out_of_files",endpoint="chat.completions"} 1.0' in shown
    assert "hydra_gateway_connect_failures_total 0.0" in shown and 'outcome="refused"' not in shown


async def test_a_name_that_cannot_be_looked_up_for_want_of_files_is_known_as_that() -> None:
    failed = socket.gaierror(socket.EAI_NONAME, "unknown")
    assert not open_files.ran_out(failed) and not open_files.ran_out(OSError(errno.ECONNREFUSED, "refused"))
    assert not open_files.ran_out(TimeoutError())
    with no_more_files():
        assert open_files.ran_out(failed)


async def test_who_only_holds_a_connection_gives_way_to_the_next(tmp_path: Path) -> None:
    async with gateway_in_process(tmp_path, connections_max=2) as made:
        first, second = await made.connect(), await made.connect()
        second[1].write(b"GET /health/live HTTP/1.1\r\nX: ")
        await asyncio.sleep(0.05)
        for waited_longest in (first, second):
            reader, writer = await made.connect()
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_answer(reader)).status == 200
            async with asyncio.timeout(20):
                with suppress(ConnectionResetError):
                    assert await waited_longest[0].read() == b""
        assert len(made.gateway.connections) == 2 and made.gateway.metrics.connections_given_way == 2


async def test_a_request_that_runs_gives_way_to_nobody(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def answer_later(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer_whole(request, writer)

    async with gateway_in_process(tmp_path, connections_max=2) as made, scripted_engine(answer_later) as engine:
        made.service(engine.port)
        busy = [await made.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(made.request())
        async with asyncio.timeout(20):
            while len(engine.requests) < 2:
                await asyncio.sleep(0.01)
        reader, writer = await made.connect()
        refused = await read_answer(reader)
        assert (refused.status, refused.error["code"]) == (503, "too_many_connections")
        release.set()
        assert [(await read_answer(reader)).status for reader, _ in busy] == [200, 200]
        shown = made.gateway.metrics.exposition(made.gateway).decode()
        assert 'hydra_gateway_refusals_total{code="too_many_connections",endpoint="none"} 1.0' in shown
        for _, each in (*busy, (reader, writer)):
            each.close()
