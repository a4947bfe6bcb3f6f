"""The running platform as anyone may see it: `run/platform.json`, written by the supervisor, read by the command."""

from __future__ import annotations

import os
import time
from typing import Literal

import msgspec

from runner.home_folder import make_home
from runner.linux_processes import lives, snapshot
from runner.settings import RunnerSettings

ProcessState = Literal[
    "waiting", "starting", "ready", "not_ready", "restarting", "halted", "done", "stopping", "stopped", "lost"
]
PlatformState = Literal["starting", "running", "stopping", "stopped", "failed", "lost"]

RUNS_NO_MORE: frozenset[PlatformState] = frozenset({"stopped", "failed"})


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `started` is in seconds since the epoch, `pid_ticks` tells its pid from a later owner of it.

    `waiting`: for what it needs. `not_ready`: runs and says why it cannot work. `restarting`: died, comes back after
    a pause. `halted`: stopped on purpose (exit code 78), until `hydra resume` or another `hydra up`. `done`: a step
    that is over, `reason` being its last word. `lost`: recorded as running, but gone, because the supervisor is gone
    too.
    """

    name: str
    kind: str
    state: ProcessState
    port: int | None
    log: str
    pid: int | None = None
    pid_ticks: int | None = None
    started: float | None = None
    restarts: int = 0
    reason: str = ""
    memory_bytes: int = 0

    @property
    def uptime_s(self) -> float | None:
        """Seconds since this run of the process began."""
        return None if self.started is None or self.pid is None else max(0.0, time.time() - self.started)

    @property
    def in_order(self) -> bool:
        """Whether it does what it is there for."""
        return self.state in ("ready", "done")


class PlatformStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`mark` is in the environment of all processes of this run. `lost`: the supervisor was killed; `down` ends all."""

    state: PlatformState
    home: str
    engine: str
    pid: int
    pid_ticks: int
    started: float
    mark: str
    processes: tuple[ProcessStatus, ...]
    reason: str = ""

    @property
    def in_order(self) -> bool:
        """Whether the platform runs and every process of it does what it is there for."""
        return self.state == "running" and all(process.in_order for process in self.processes)


def read_record(settings: RunnerSettings) -> PlatformStatus | None:
    """What the supervisor wrote last, as it stands; None where no platform ever ran, or the file is not readable."""
    try:
        return msgspec.json.decode((settings.run_dir / "platform.json").read_bytes(), type=PlatformStatus)
    except (OSError, msgspec.DecodeError):
        return None


def read(settings: RunnerSettings) -> PlatformStatus | None:
    """The platform as it is now, memory included: the record, corrected by what lives. None where none ever ran."""
    record = read_record(settings)
    if record is None:
        return None
    running = lives(record.pid, record.pid_ticks)
    table = snapshot()
    processes = []
    for process in record.processes:
        alive = lives(process.pid, process.pid_ticks)
        memory = table.resident_with_children(process.pid) if alive and process.pid is not None else 0
        # Of a supervisor that runs, the record is the truth: it may just be about to restart a process.
        gone = process.pid is not None and not alive and not running
        process = msgspec.structs.replace(process, memory_bytes=memory)
        processes.append(msgspec.structs.replace(process, state="lost", pid=None) if gone else process)
    state: PlatformState = record.state if running or record.state in RUNS_NO_MORE else "lost"
    return msgspec.structs.replace(record, state=state, processes=tuple(processes))


def write(settings: RunnerSettings, status: PlatformStatus) -> None:
    """Replaces the record at once, so that a reader never sees half of it."""
    make_home(settings)
    scratch = settings.run_dir / f"platform.json.{os.getpid()}"
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=1))
    scratch.replace(settings.run_dir / "platform.json")
