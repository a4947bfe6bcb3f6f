"""What `make bench` is put together from works; how fast anything is, no test says."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import load, upstream
from benchmarks.cpu import cores_apart, cpu_seconds
from benchmarks.footprint import resident_mib
from benchmarks.gateway import CELLS, PATH, Cell, Subject, medians_and_ratios
from benchmarks.nginx import running_nginx
from benchmarks.promises import Followed
from runner.status import PlatformStatus, ProcessStatus
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def _upstream() -> AsyncIterator[int]:
    server = await upstream.serve(0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_every_request_of_a_load_is_answered_and_timed() -> None:
    async with _upstream() as port:
        times = await load.run(load.post("127.0.0.1", port, PATH, Cell("c", 4, 0).body(), "key"), 4, 30)
    assert len(times.whole) == len(times.first) == 30
    assert all(0 < first <= whole for first, whole in zip(sorted(times.first), sorted(times.whole), strict=True))


@pytest.mark.parametrize("pace_ms", [0, 1])
async def test_a_stream_has_the_chunks_that_were_asked_for(pace_ms: int) -> None:
    async with _upstream() as port:
        target = load.post("127.0.0.1", port, PATH, Cell("s", 1, 1, pace_ms=pace_ms).body(), "key")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(target.request)
        async with asyncio.timeout(60):
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
    assert answer.count(b'"content":" exact"') == 50
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") and answer.count(b'"usage":{') == 1


async def test_a_load_breaks_off_at_an_answer_that_is_none() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(RuntimeError, match="status 503"):
        async with asyncio.timeout(60):
            await load.run(load.post("127.0.0.1", port, PATH, b"{}", "key"), 1, 5)
    server.close()


@pytest.mark.skipif(
    shutil.which("nginx") is None and shutil.which("nginx", path="/usr/sbin") is None, reason="nginx is not installed"
)
async def test_nginx_passes_requests_and_streams_through(tmp_path: Path) -> None:
    async with _upstream() as port:
        front = free_port()
        nginx = running_nginx(tmp_path, front, port, "key")
        pid = await asyncio.to_thread(nginx.__enter__)  # it asks nginx, and so us, whether it answers
        try:
            for cell in (Cell("c", 2, 0), Cell("s", 2, 0, pace_ms=1)):
                before = cpu_seconds(pid)
                times = await load.run(load.post("127.0.0.1", front, PATH, cell.body(), "key"), cell.connections, 8)
                assert len(times.whole) == 8 and cpu_seconds(pid) > before
        finally:
            await asyncio.to_thread(nginx.__exit__, None, None, None)


def test_ratios_are_of_rounds_and_times_are_beyond_the_upstreams_own() -> None:
    def subject(name: str, cpu_ms: tuple[float, ...], p50_ms: float) -> Subject:
        rounds = [{"cpu_ms": each, "per_s": 1 / each, "p50_ms": p50_ms} for each in cpu_ms]
        return Subject(name, 0, "key", 1, found={cell.name: rounds for cell in CELLS})

    figures = medians_and_ratios(
        [
            subject("direct", (1, 1, 1), 1),
            subject("nginx", (1, 2, 4), 2),
            subject("litellm", (100, 100, 100), 50),
            subject("gateway", (2, 4, 16), 4),
        ]
    )
    assert figures["c16_gateway_cpu_ms"] == 4 and figures["c16_gateway_added_p50_ms"] == 3
    assert figures["c16_cpu_ratio_gateway_to_nginx"] == 2, "the middle of 2, 2 and 4"
    assert figures["c16_cpu_ratio_gateway_to_litellm"] == 0.04
    assert figures["c16_rate_ratio_gateway_to_nginx"] == 0.5
    assert not any("direct" in name for name in figures)


def test_the_proxy_is_litellm_in_the_version_that_the_gateway_uses() -> None:
    pin = "==1.109.1"
    assert f'"litellm{pin}"' in (ROOT / "pyproject.toml").read_text()
    assert f"litellm[proxy]{pin}" in (ROOT / "requirements" / "litellm-proxy.in").read_text()
    assert f"\nlitellm{pin} " in (ROOT / "requirements" / "litellm-proxy.txt").read_text()


def test_what_is_measured_has_a_core_of_its_own_where_there_are_two() -> None:
    measured, others = cores_apart()
    assert len(measured) == 1 and others
    assert measured.isdisjoint(others) or measured == others


TAKES_MEMORY = "x = bytearray({mib} << 20); import sys; print(len(x), flush=True); sys.stdin.read()"
WORKER = f"""
import subprocess, sys
engine = subprocess.Popen([sys.executable, "-c", {TAKES_MEMORY.format(mib=200)!r}], start_new_session=True)
{TAKES_MEMORY.format(mib=50)}
"""


def test_the_memory_of_a_platform_has_its_engines_in_it() -> None:
    """This process is the supervisor, and its child a worker with one engine in a session of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        told = {worker.stdout.readline(), worker.stdout.readline()}
        assert told == {f"{50 << 20}\n", f"{200 << 20}\n"}
        process = ProcessStatus(name="worker", kind="service", state="ready", port=None, log="", pid=worker.pid)
        status = PlatformStatus(
            state="running",
            home="",
            engine="simulated",
            pid=os.getpid(),
            pid_ticks=0,
            started=time.time(),
            mark="",
            processes=(process,),
        )
        found = resident_mib(status)
        worker.stdin.close()
    assert set(found) == {"worker", "engines", "supervisor", "platform"}
    assert 50 <= found["worker"] < 200 <= found["engines"] < 400
    assert found["platform"] >= found["worker"] + found["engines"] + found["supervisor"] - 0.001


def test_charges_are_behind_by_what_is_not_charged_yet() -> None:
    start = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def after(seconds: int) -> datetime:
        return start + timedelta(seconds=seconds)

    followed = Followed()
    for at, charged_s in ((-1, ()), (10, ()), (55, ()), (56, (50,)), (90, (50,)), (107, (50, 100))):
        segments = [(after(until - 50), after(until)) for until in charged_s]
        followed.saw(after(at), segments)
    figures = followed.figures()
    # 10 and 55 s before there was a charge, then 6, 40 and 7.
    assert figures == {"charges_behind_p50_s": 10, "charges_behind_max_s": 55, "charges_seen": 2}


def test_an_instance_without_a_charge_is_no_figure() -> None:
    followed = Followed()
    followed.saw(datetime(2026, 11, 20, 12, tzinfo=UTC), [])
    with pytest.raises(RuntimeError, match="no charge"):
        followed.figures()
