"""Engines that an earlier run of the agent left, found again by their record and by nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.worker.engine_process import ENGINE_START, end_leftover
from services.worker.process_table import identify, kill_session, session_members
from services.worker.records import EngineProcessRecord
from tests.integration.worker.node_agent import until

FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, {action})
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
time.sleep(1000)
"""


class Family:
    """A process with a child, in a session of its own."""

    def __init__(self, action: str) -> None:
        code = FAMILY.format(action=action)
        self.process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        record = identify(self.process.pid)
        assert record is not None
        self.record = record


@pytest.fixture(params=["signal.SIG_IGN", "signal.SIG_DFL"])
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    """One that ignores SIGTERM, and one whose first process alone follows it."""
    family = Family(request.param)
    yield family
    kill_session(family.record)
    family.process.kill()
    family.process.wait()


async def test_all_of_it_is_ended(family: Family) -> None:
    await until("both run", lambda: len(session_members(family.record)) == 2)
    await asyncio.wait_for(end_leftover(family.record, 0.5), 60)
    assert session_members(family.record) == []


async def test_children_are_found_when_the_first_process_is_gone(family: Family) -> None:
    await until("both run", lambda: len(session_members(family.record)) == 2)
    family.process.kill()
    family.process.wait()
    assert len(session_members(family.record)) == 1
    await asyncio.wait_for(end_leftover(family.record, 0.0), 60)
    assert session_members(family.record) == []


@pytest.mark.parametrize("changes", [{"start_ticks": 1}, {"boot": "another boot"}])
async def test_another_process_with_the_pid_is_left_alone(family: Family, changes: dict[str, object]) -> None:
    earlier = msgspec.structs.replace(family.record, **changes)
    await end_leftover(earlier, 0.0)
    assert family.process.poll() is None


def start(*command: str, stdin: bytes | None, agent: int | None = None) -> subprocess.CompletedProcess[bytes]:
    whole = [sys.executable, str(ENGINE_START), str(agent or os.getpid()), *command]
    return subprocess.run(whole, input=stdin or b"", capture_output=True, timeout=60, check=False)


def test_no_engine_starts_whose_agent_died_before_it_kept_its_process(tmp_path: Path) -> None:
    target = tmp_path / "engine_of_a_test.py"
    target.write_text("print('started')\n")
    done = start(str(target), stdin=b'{"api_key": "k", "envi')
    assert done.returncode != 0
    assert b"started" not in done.stdout
    assert b"closed before the engine had its key" in done.stderr


def test_no_engine_starts_whose_agent_is_another_process(tmp_path: Path) -> None:
    done = start("-c", stdin=b'{"api_key": "k"}\n', agent=1)
    assert done.returncode != 0
    assert b"the node agent died while its engine started" in done.stderr


def test_the_key_is_an_argument_inside_the_process_alone(tmp_path: Path) -> None:
    target = tmp_path / "engine_of_a_test.py"
    target.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "print(sys.argv, os.environ['GPUS'], b'secret' in Path('/proc/self/cmdline').read_bytes(), os.read(0, 9))\n"
    )
    done = start(str(target), "--port=1", stdin=b'{"api_key": "secret", "environment": {"GPUS": "0,1"}}\n')
    assert done.stdout.decode() == f"['{target}', '--port=1', '--api-key=secret'] 0,1 False b''\n"


def test_a_record_names_a_living_process_only() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert identify(process.pid) is None
    assert session_members(EngineProcessRecord(pid=process.pid, start_ticks=1, boot="another boot")) == []
