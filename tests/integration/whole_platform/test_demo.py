"""The main job by the one command: `hydra demo` on a platform of its own."""

from __future__ import annotations

from pathlib import Path

from runner.linux_processes import lives
from runner.settings import RunnerSettings
from runner.status import read
from tests.servers.platform import Platform


def test_the_demo_agrees_with_its_bill_and_leaves_nothing_running(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home")
    done = platform.run("demo", timeout_s=400)
    assert "The bill agrees with what the client saw. Engine: simulated" in done.stdout
    record = read(RunnerSettings(home=platform.home))
    assert record is not None
    assert not [process.name for process in record.processes if lives(process.pid, process.pid_ticks)]
