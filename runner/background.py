"""The platform in the background: `start_detached` returns when it is ready, `stop` when every process is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from runner.home_folder import make_home
from runner.leftovers import end_leftovers
from runner.linux_processes import lives, send
from runner.platform import longest_stop_s
from runner.running_lock import AlreadyRunning, running_lock
from runner.screen import Screen, screen_for
from runner.settings import PROJECT, RunnerSettings
from runner.status import PlatformStatus, read_record

POLL_S = 0.2
STOP_TIMEOUT_S = longest_stop_s() + 30.0
LOCK_TIMEOUT_S = 10.0
EXIT_FAILED = 1


def start_detached(
    settings: RunnerSettings, *, command: Sequence[str] | None = None, console: Console | None = None
) -> int:
    """Starts the platform in a session of its own, shows its progress and returns once it is ready.

    Exit code 0: ready. 1: it could not be started, and nothing of it runs; or a process has stopped on purpose, and
    the rest runs. Ctrl-C while it starts stops it again. `command` is the supervisor's unless given.
    """
    make_home(settings)
    errors = settings.run_dir / "start.err"
    with errors.open("wb") as error_file:
        supervisor = subprocess.Popen(
            command or [sys.executable, "-m", "runner.supervisor"],
            cwd=PROJECT,
            env={**os.environ, **settings.supervisor_environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=error_file,
            start_new_session=True,
        )
    screen = screen_for(console or Console())
    try:
        record = _watch_start(settings, supervisor, screen)
    except KeyboardInterrupt:
        screen.say("stopping the platform")
        supervisor.terminate()
        supervisor.wait()
        return EXIT_FAILED
    finally:
        screen.close()
    if record is None:
        return _explain(errors)
    halted = [process for process in record.processes if process.state == "halted"]
    for process in halted:
        print(f"{process.name} stopped on purpose: {process.reason} (log: {process.log})", file=sys.stderr)
    return EXIT_FAILED if halted else 0


def _watch_start(
    settings: RunnerSettings, supervisor: subprocess.Popen[bytes], screen: Screen
) -> PlatformStatus | None:
    shown = None
    restarts: dict[str, int] = {}
    while supervisor.poll() is None:
        record = read_record(settings)
        if record is not None and record.pid == supervisor.pid and record != shown:
            screen.show(record)
            shown = record
            for process in record.processes:
                if process.state == "restarting" and process.restarts > restarts.get(process.name, 0):
                    restarts[process.name] = process.restarts
                    screen.say(f"{process.name} ended ({process.reason}); it is started again")
            if record.state == "running":
                return record
        time.sleep(POLL_S)
    return None


def _explain(errors: Path) -> int:
    text = errors.read_text(errors="replace").strip()
    print(text or f"the platform ended while starting; see {errors}", file=sys.stderr)
    return EXIT_FAILED


def stop(settings: RunnerSettings, *, console: Console | None = None) -> int:
    """Stops the platform of this home, also when its supervisor was killed, and waits until every process is gone.

    Exit code 0, also when nothing ran; 1 when something could not be ended.
    """
    screen = console or Console()
    record = read_record(settings)
    ran = record is not None and lives(record.pid, record.pid_ticks)
    if record is not None and ran and not _stop_supervisor(record, screen):
        screen.print(f"the supervisor (process {record.pid}) did not end in time and was killed", soft_wrap=True)
    try:
        ended = _end_what_is_left(settings)
    except AlreadyRunning as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if ended and not ran:
        screen.print(f"the supervisor had been killed; ended {ended} processes that it left", soft_wrap=True)
    if not ran and not ended:
        screen.print(f"no platform is running in {settings.home}", soft_wrap=True)
    else:
        screen.print(f"the platform in {settings.home} is stopped", soft_wrap=True)
    return 0


def _stop_supervisor(record: PlatformStatus, screen: Console) -> bool:
    screen.print("stopping every process ...")
    send(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while lives(record.pid, record.pid_ticks):
        if time.monotonic() > deadline:
            send(record.pid, signal.SIGKILL)
            return False
        time.sleep(POLL_S)
    return True


def _end_what_is_left(settings: RunnerSettings) -> int:
    # A supervisor that is just ending may hold the lock for a moment more.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        with contextlib.suppress(AlreadyRunning), running_lock(settings):
            return asyncio.run(end_leftovers(settings))
        if time.monotonic() > deadline:
            with running_lock(settings):
                return asyncio.run(end_leftovers(settings))
        time.sleep(POLL_S)
