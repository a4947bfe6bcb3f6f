"""A platform of a few small processes under the real supervisor: `python -m tests.integration.runner.small_platform`.

The test's side writes the processes' folder and talks to the supervisor as an operator would, by signals.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from runner.child import Pace
from runner.foreground import run_foreground
from runner.linux_processes import start_ticks
from runner.processes import Process
from runner.settings import PROJECT, RunnerSettings
from runner.status import PlatformStatus, ProcessStatus, read
from tests.servers.ports import free_port

DEADLINE_S = 90.0
PACE = Pace(first_pause_s=0.2, longest_pause_s=1.0, ask_s=0.2, ask_while_starting_s=0.1)


def small(name: str, *needs: str, stop_stage: int = 1, stop_grace_s: float = 30.0) -> Process:
    return Process(
        name=name,
        kind="control",
        module=name,
        does="serves health",
        port=free_port(),
        needs=needs,
        stop_stage=stop_stage,
        stop_grace_s=stop_grace_s,
    )


class SmallPlatform:
    def __init__(self, folder: Path, *processes: Process, ready_timeout_s: float = DEADLINE_S) -> None:
        self.folder = folder
        self.settings = RunnerSettings(home=folder / "home", ready_timeout_s=ready_timeout_s)
        self._processes = processes
        self._supervisors: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("small_process.py"), folder / "small_process.py")
        for process in processes:
            (folder / f"{process.name}.py").write_text(f"from small_process import main\n\nmain({process.name!r})\n")
            (folder / f"{process.name}.port").write_text(str(process.port))
        (folder / "processes.json").write_text(json.dumps([asdict(process) for process in processes]))

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.integration.runner.small_platform", str(self.folder)]

    def put(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def up(self) -> subprocess.Popen[str]:
        supervisor = subprocess.Popen(
            self.command,
            cwd=PROJECT,
            env={**os.environ, **self.settings.supervisor_environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._supervisors.append(supervisor)
        return supervisor

    def status(self) -> PlatformStatus:
        found = read(self.settings)
        assert found is not None, "no platform has been recorded"
        return found

    def process(self, name: str) -> ProcessStatus:
        return next(process for process in self.status().processes if process.name == name)

    def wait(self, what: Callable[[PlatformStatus], bool]) -> PlatformStatus:
        found: PlatformStatus | None = None
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            found = read(self.settings)
            if found is not None and what(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"it never became so; last: {found}")

    def wait_ready(self) -> PlatformStatus:
        return self.wait(lambda status: status.in_order)

    def wait_state(self, name: str, state: str) -> ProcessStatus:
        self.wait(lambda status: any(p.name == name and p.state == state for p in status.processes))
        return self.process(name)

    def pids(self) -> dict[str, int]:
        return {p.name: p.pid for p in self.status().processes if p.pid is not None}

    def ended(self) -> list[str]:
        file = self.folder / "ended"
        return file.read_text().split() if file.exists() else []

    def clean_up(self) -> None:
        """Ends whatever a failed test has left."""
        pids = self.pids().values() if read(self.settings) else []
        for supervisor in self._supervisors:
            if supervisor.poll() is None:
                supervisor.kill()
            supervisor.communicate()
        for pid in pids:
            if start_ticks(pid) is not None:
                os.killpg(pid, signal.SIGKILL)


def main(folder: Path) -> int:
    processes = [
        Process(**{**fields, "needs": tuple(fields["needs"])})
        for fields in json.loads((folder / "processes.json").read_text())
    ]
    return run_foreground(RunnerSettings(), processes=processes, folder=folder, pace=PACE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
