"""The runner of the long runs: it fits into its time, and nothing of a part outlives it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
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
IN_A_SESSION_OF_ITS_OWN = LEAVES_ONE_BEHIND.replace("stderr=", "start_new_session=True, stderr=")


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
    longest_lane = max(sum(part.longest_minutes for part in lane) for lane in runner.LANES)
    parts_end_after = longest_lane + runner.COMPOSE.longest_minutes
    assert parts_end_after <= runner.ALL_WITHIN_MINUTES - runner.BEFORE_AND_BETWEEN_MINUTES
    assert all(part.longest_minutes > part.limit_minutes + part.end_grace_s / 60 for part in runner.PARTS.values())


SETTING = re.compile(r'"(HYDRA_FAULTS_[A-Z_]+)"')
FAULTS = Path(runner.ROOT / "tests" / "faults")


def settings_of(test: Path) -> set[str]:
    """Which settings make this test longer: those that it reads, and the length of an outage where it asks for that."""
    text = test.read_text()
    found = set(SETTING.findall(text)) - {"HYDRA_FAULTS_SEED"}
    return found | ({"HYDRA_FAULTS_OUTAGE_S"} if re.search(r"\bOUTAGE_S\b", text) else set())


@pytest.mark.parametrize("test", sorted(FAULTS.glob("test_*.py")), ids=lambda test: test.stem)
def test_what_can_last_longer_does_in_a_part(test: Path) -> None:
    for setting in settings_of(test):
        longer = [part.name for part in runner.PARTS.values() if setting in part.settings and runs(part, test)]
        assert longer, f"no part of `make e2e` plays {test.name} with another {setting}"


def runs(part: runner.Part, test: Path) -> bool:
    return str(test.relative_to(runner.ROOT)) in part.command


@pytest.mark.parametrize("leaves", [LEAVES_ONE_BEHIND, IN_A_SESSION_OF_ITS_OWN], ids=["in its group", "outside of it"])
async def test_what_a_part_leaves_behind_is_ended(tmp_path: Path, leaves: str) -> None:
    pid_file = tmp_path / "pid"
    assert await runner._outcome(part(leaves.format(pid_file=str(pid_file)))) == "passed"
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} has outlived its part"
        await asyncio.sleep(0.1)


HOLDS_A_SERVER = """
import pathlib, time, pytest
@pytest.fixture
def server():
    yield pathlib.Path("started").touch()
    pathlib.Path("stopped").touch()
def test_one(server):
    time.sleep(600)
"""


def test_tests_that_are_asked_to_end_stop_their_servers_first(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(HOLDS_A_SERVER)
    (tmp_path / "none.ini").write_text("[pytest]\n")
    command = (*runner._pytest("test_one.py"), "-c", "none.ini", "-p", "tests.conftest", "-p", "no:cacheprovider")
    asked = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(runner.ROOT)})
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "started").exists():
            assert asked.poll() is None and time.monotonic() < deadline, "the test has not begun"
            time.sleep(0.1)
        asked.terminate()
        asked.wait(60)
    finally:
        asked.kill()
    assert (tmp_path / "stopped").exists()


async def test_a_part_that_ignores_being_asked_is_killed() -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(600)"
    )
    asked = runner.Part("stubborn", "a test", (sys.executable, "-c", stubborn), 0.05, end_grace_s=0.5)
    assert await runner._outcome(asked) == "FAILED"
    assert not is_alive(int((runner.LOGS / "stubborn.log").read_text()))


async def test_a_line_over_the_limit_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LINE_BYTES_MAX", 1000)
    assert await runner._outcome(part("print('x' * 50_000); print('behind it')")) == "passed"
    log = (runner.LOGS / "tried.log").read_text()
    assert "left out: a line of more than 1000 bytes" in log and log.endswith("behind it\n")


async def test_a_part_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert await runner._outcome(part("raise SystemExit(3)")) == "FAILED"
    assert "FAILED, exit code 3" in capsys.readouterr().out


SKIPS = """
import pytest
pytestmark = pytest.mark.skip(reason="this machine has no wings")
def test_one(): ...
def test_two(): ...
"""
RUNS_ONE = """
import pytest
@pytest.mark.skip(reason="this machine has no wings")
def test_one(): ...
def test_two(): ...
"""


@pytest.mark.parametrize(("code", "outcome"), [(SKIPS, "left out"), (RUNS_ONE, "passed")])
async def test_a_part_that_skips_everything_is_left_out_and_not_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, outcome: str
) -> None:
    (tmp_path / "test_flight.py").write_text(code)
    # Not within this project's settings, which are about its own tests.
    settings = ("--rootdir", str(tmp_path), "-c", str(tmp_path / "none.ini"), "-p", "no:cacheprovider")
    (tmp_path / "none.ini").write_text("[pytest]\n")
    played = runner.Part("flight", "a test", (*runner._pytest(str(tmp_path)), *settings), 2)
    assert await runner._outcome(played) == outcome
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"flight: {outcome}") and ("no wings" in said) == (outcome == "left out")


def test_the_last_line_counts_what_was_left_out_by_itself() -> None:
    ended: dict[str, runner.Outcome] = {"soak": "passed", "full_disk": "left out", "bill": "passed", "faults": "FAILED"}
    assert runner.summary(ended) == "2 passed, 1 left out (full_disk), 1 FAILED (faults)"
    assert runner.summary({"soak": "passed"}) == "1 passed, 0 left out, 0 FAILED"


async def test_compose_without_an_engine_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_no_engine", lambda: "there is no `docker` on this machine")
    assert await runner._play(["compose"]) == {"compose": "left out"}
