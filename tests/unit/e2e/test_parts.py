"""The runner of the long runs: it fits into its time, and nothing of a part outlives it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import __main__ as runner

LEAVES_ONE_BEHIND = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
open({pid_file!r}, "w").write(str(child.pid))
"""


def part(code: str) -> runner.Part:
    return runner.Part("tried", "a test", (sys.executable, "-c", code), 2)


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    return tmp_path


def is_alive(pid: int) -> bool:
    try:
        # The name in the middle may hold anything; the state follows it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_all_limits_together_are_what_make_e2e_promises() -> None:
    longest_lane = max(sum(part.limit_minutes for part in lane) for lane in runner.LANES)
    assert longest_lane + runner.COMPOSE.limit_minutes <= runner.ALL_WITHIN_MINUTES


async def test_what_a_part_leaves_behind_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert await runner._passes(part(LEAVES_ONE_BEHIND.format(pid_file=str(pid_file))))
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} has outlived its part"
        await asyncio.sleep(0.1)


async def test_a_part_that_ignores_being_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "END_GRACE_S", 0.5)
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(600)"
    )
    asked = runner.Part("stubborn", "a test", (sys.executable, "-c", stubborn), 0.05)
    assert not await runner._passes(asked)
    assert not is_alive(int((runner.LOGS / "stubborn.log").read_text()))


async def test_a_line_over_the_limit_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LINE_BYTES_MAX", 1000)
    assert await runner._passes(part("print('x' * 50_000); print('behind it')"))
    log = (runner.LOGS / "tried.log").read_text()
    assert "left out: a line of more than 1000 bytes" in log and log.endswith("behind it\n")


async def test_a_part_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert not await runner._passes(part("raise SystemExit(3)"))
    assert "FAILED, exit code 3" in capsys.readouterr().out
