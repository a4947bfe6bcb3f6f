"""One instance with real engine processes that are made to go wrong."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from adapters.clock import SystemClock
from schemas.placements import PlacementState
from services.worker.engine_ports import EnginePorts
from services.worker.engine_process import EngineCommand
from services.worker.instance_run import InstanceRun
from services.worker.process_table import identify, session_members
from services.worker.records import EngineProcessRecord, InstanceRecord
from services.worker.settings import WorkerSettings
from tests.integration.worker.node_agent import until
from tests.unit.worker.one_instance import INSTANCE, Place, placement

Target = Callable[[int, int], tuple[str, ...]]
"""From (epoch, port) to what Python is told to run."""


class Scripted:
    """Commands of a test: what each epoch runs."""

    def __init__(self, target: Target, python: str = sys.executable) -> None:
        self._target = target
        self._python = Path(python)

    def command(self, placement: PlacementState, epoch: int, host: str, port: int) -> EngineCommand:
        return EngineCommand(python=self._python, target=self._target(epoch, port), environment={})

    def release(self, instance: str) -> None:
        return


def simulated(port: int) -> tuple[str, ...]:
    return ("-m", "services.worker.simulated_engine", f"--port={port}")


def script(folder: Path, text: str) -> str:
    path = folder / "engine_of_a_test.py"
    path.write_text(text)
    return str(path)


@asynccontextmanager
async def running(
    folder: Path, commands: Scripted, ports: EnginePorts | None = None, **settings: float
) -> AsyncIterator[tuple[InstanceRun, Place]]:
    quick = WorkerSettings.model_validate({"check_seconds": 0.2, "shutdown_drain_seconds": 5, **settings})
    place = Place(folder, SystemClock(), commands, quick, ports=ports or EnginePorts(20_000, 31_999))
    run = InstanceRun(place.site, placement(), InstanceRecord(instance=INSTANCE))
    task = asyncio.create_task(run.run())
    try:
        yield run, place
    finally:
        run.stop()
        await asyncio.wait_for(task, 60)
        await place.probe.close()


def engine(place: Place) -> EngineProcessRecord:
    record = place.records.load_all()[0][INSTANCE].process
    assert record is not None
    return record


async def test_an_engine_that_finds_its_port_taken_gets_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port_taken = taken.getsockname()[1]
        commands = Scripted(lambda epoch, port: simulated(port_taken if epoch == 1 else port))
        async with running(tmp_path, commands) as (run, _):
            await until("ready on another port", lambda: run.report.state == "ready")
            assert run.report.epoch == 2


@contextmanager
def server_that_takes_any_key() -> Iterator[int]:
    class Anybody(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anybody)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class PortOfAStranger(EnginePorts):
    """Gives a port on which somebody listens already."""

    def __init__(self, port: int) -> None:
        super().__init__(port, port)
        self._port = port

    def take(self, host: str) -> int:
        return self._port


async def test_a_stranger_on_the_engines_port_is_not_taken_for_the_engine(tmp_path: Path) -> None:
    idle = script(tmp_path, "import time\ntime.sleep(1000)\n")
    with server_that_takes_any_key() as port:
        commands = Scripted(lambda epoch, port: (idle,))
        async with running(tmp_path, commands, PortOfAStranger(port)) as (run, place):
            await started(run, place)

            def told() -> str | None:
                return place.records.load_all()[0][INSTANCE].detail

            await until("the stranger is refused", lambda: told() == "a request without a key got 200")
            assert run.report.state == "loading"


async def started(run: InstanceRun, place: Place) -> EngineProcessRecord:
    def has_process() -> bool:
        record = place.records.load_all()[0].get(INSTANCE)
        return record is not None and record.process is not None

    await until("an engine process", has_process)
    return engine(place)


async def test_an_engine_that_never_gets_ready_is_ended_and_started_again(tmp_path: Path) -> None:
    idle = script(tmp_path, "import time\ntime.sleep(1000)\n")
    async with running(tmp_path, Scripted(lambda epoch, port: (idle,)), start_timeout_seconds=1) as (run, place):
        first = await started(run, place)
        await until("the second start", lambda: run.report.epoch >= 2)
        assert session_members(first) == []


async def test_an_engine_that_stands_still_for_too_long_is_ended_and_started_again(tmp_path: Path) -> None:
    commands = Scripted(lambda epoch, port: simulated(port))
    bounds = {"unresponsive_seconds": 2, "check_timeout_seconds": 1}
    async with running(tmp_path, commands, **bounds) as (run, place):
        await until("ready", lambda: run.report.state == "ready")
        first = engine(place)
        os.kill(first.pid, signal.SIGSTOP)
        await until("ready again", lambda: run.report.epoch >= 2 and run.report.state == "ready")
        assert session_members(first) == []


async def test_what_an_engine_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    text = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
    may_leave = tmp_path / "may leave"
    leaving = script(
        tmp_path, f"{text}import os, time\nwhile not os.path.exists({str(may_leave)!r}): time.sleep(0.05)\n"
    )
    async with running(tmp_path, Scripted(lambda epoch, port: (leaving,))) as (run, place):
        first = await started(run, place)
        await until("both run", lambda: len(session_members(first)) == 2)
        may_leave.touch()
        await until("the engine's exit is seen", lambda: run.report.state == "failed")
        assert session_members(first) == []


async def test_an_interpreter_that_is_missing_fails_and_says_so(tmp_path: Path) -> None:
    commands = Scripted(lambda epoch, port: simulated(port), python="/nowhere/bin/python")
    async with running(tmp_path, commands) as (run, _):
        await until("failed", lambda: run.report.state == "failed")
        heartbeat = run.report.heartbeat()
        assert heartbeat is not None
        assert heartbeat.detail == "the engine cannot be started (No such file or directory)"


async def test_an_end_does_not_wait_for_streams(tmp_path: Path) -> None:
    stubborn = script(tmp_path, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1000)\n")
    async with running(tmp_path, Scripted(lambda epoch, port: (stubborn,))) as (run, place):
        first = await started(run, place)
        run.follow(placement(2, wanted="ended"))
        await until("ended", lambda: run.report.state == "ended")
        assert session_members(first) == []
        assert identify(first.pid) is None


async def test_an_engine_that_ignores_a_drain_is_killed_at_its_bound(tmp_path: Path) -> None:
    stubborn = script(tmp_path, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1000)\n")
    commands = Scripted(lambda epoch, port: (stubborn,))
    async with running(tmp_path, commands, drain_seconds=1, drain_settle_seconds=0) as (run, place):
        first = await started(run, place)
        run.follow(placement(2, wanted="draining"))
        await until("ended", lambda: run.report.state == "ended")
        assert session_members(first) == []


async def test_an_engine_that_answers_nobody_does_not_outlast_the_end_of_its_agent(tmp_path: Path) -> None:
    """Nor does the question for its last counters, which may wait for longer than the drain."""
    commands = Scripted(lambda epoch, port: simulated(port))
    async with running(tmp_path, commands, shutdown_drain_seconds=1, check_timeout_seconds=60) as (run, place):
        await until("ready", lambda: run.report.state == "ready")
        first = engine(place)
        os.kill(first.pid, signal.SIGSTOP)
        run.stop()
        async with asyncio.timeout(45):
            await until("its engine is gone", lambda: session_members(first) == [])
