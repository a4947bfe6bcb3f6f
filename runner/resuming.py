"""Tells the supervisor to start a process again that stopped on purpose: by a file, watched while it is halted."""

from __future__ import annotations

import time
from pathlib import Path

from runner.settings import RunnerSettings
from runner.status import ProcessStatus, read

POLL_S = 0.2
STARTED_WITHIN_S = 120.0


def resume_file(settings: RunnerSettings, process: str) -> Path:
    """Its being there is the request."""
    return settings.run_dir / "resume" / process


def start_again(settings: RunnerSettings, process: str) -> ProcessStatus | None:
    """Ask for another start of a halted process and wait, bounded, for what becomes of it; None: it runs no more."""
    file = resume_file(settings, process)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        # The file goes once the supervisor has noted that it starts the process. It is looked at first, or what is
        # read of the process could still be the old stop.
        taken = not file.exists()
        found = status_of(settings, process)
        settled = found is None or (taken and found.state in ("ready", "not_ready", "done", "halted"))
        if settled or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def status_of(settings: RunnerSettings, process: str) -> ProcessStatus | None:
    """The process as the running platform of this home records it; None where none runs here or it has none such."""
    platform = read(settings)
    if platform is None or platform.state not in ("starting", "running"):
        return None
    return next((one for one in platform.processes if one.name == process), None)
