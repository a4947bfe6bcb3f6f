"""All processes of one platform together: started in order, watched, recorded, stopped in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from runner.child import KILL_GRACE_S, Child, Pace
from runner.linux_processes import PLATFORM_MARK, marked, send, start_ticks
from runner.log_file import RotatedLog
from runner.processes import PROCESSES, Process
from runner.readiness import Readiness
from runner.resuming import resume_file
from runner.settings import PROJECT, RunnerSettings
from runner.status import PlatformState, PlatformStatus, write

DEATHS_BEFORE_READY_MAX = 3
STRAGGLERS_GRACE_S = 10.0
POLL_S = 0.1


class StartFailed(Exception):
    """The platform cannot become ready; the text names the process, its reason and its log."""


class LocalPlatform:
    """One run of a platform. `begin` starts everything, `wait_until_settled` ends when all is ready, `end` stops it.

    `on_change` gets the whole status at each change of any part; the same is in `run/platform.json`.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        processes: Sequence[Process],
        environment: dict[str, str],
        *,
        say: Callable[[str], None],
        on_change: Callable[[PlatformStatus], None],
        folder: Path = PROJECT,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._say = say
        self._on_change = on_change
        self._mark = uuid4().hex
        self._state: PlatformState = "starting"
        self._reason = ""
        self._started = time.time()
        self._began = False
        self._readiness = Readiness(settings)
        self._lives: list[asyncio.Task[None]] = []
        self.hurry = asyncio.Event()
        """Set to end everything at once, without grace."""
        told = {**environment, **settings.environment(), PLATFORM_MARK: self._mark}
        self._children = {
            process.name: Child(
                process,
                [sys.executable, "-m", process.module],
                told,
                folder,
                RotatedLog(settings.logs_dir / f"{process.name}.log"),
                self._readiness.ask,
                port=settings.port(process),
                on_change=self._record,
                say=say,
                resume_file=resume_file(settings, process.name),
                pace=pace,
            )
            for process in processes
        }

    def status(self) -> PlatformStatus:
        """The platform as it is now; memory is left to whoever reads the record."""
        return PlatformStatus(
            state=self._state,
            home=str(self._settings.home),
            engine=self._settings.worker_engine or self._settings.engine,
            pid=os.getpid(),
            pid_ticks=start_ticks(os.getpid()) or 0,
            started=self._started,
            mark=self._mark,
            processes=tuple(child.status for child in self._children.values()),
            reason=self._reason,
        )

    def begin(self) -> None:
        """Starts every process as soon as what it needs is ready. The record exists before the first process does."""
        self._began = True
        self._record()
        self._lives = [asyncio.create_task(self._live(child), name=name) for name, child in self._children.items()]

    async def wait_until_settled(self) -> list[str]:
        """Returns once every process is ready, or has halted on purpose: the names of those. Raises StartFailed."""
        deadline = time.monotonic() + self._settings.ready_timeout_s
        while waiting := [child for child in self._children.values() if not child.settled.is_set()]:
            for child in waiting:
                if child.deaths_before_ready >= DEATHS_BEFORE_READY_MAX:
                    raise StartFailed(
                        f"{child.process.name} cannot start: {child.status.reason} (log: {child.status.log})"
                    )
            if halted := self._halted_before(waiting):
                raise StartFailed(halted)
            if time.monotonic() > deadline:
                names = ", ".join(f"{c.process.name} ({c.status.reason or c.status.state})" for c in waiting)
                raise StartFailed(
                    f"not ready after {self._settings.ready_timeout_s:g} s: {names} (logs: {self._settings.logs_dir})"
                )
            await asyncio.sleep(POLL_S)
        self._state = "running"
        self._record()
        return [child.process.name for child in self._children.values() if child.status.state == "halted"]

    async def until_broken(self) -> None:
        """Never returns; raises what broke the supervision of a process, which only a mistake of ours can."""
        await asyncio.wait(self._lives, return_when=asyncio.FIRST_EXCEPTION)
        for life in self._lives:
            if life.done() and not life.cancelled() and (error := life.exception()) is not None:
                raise error
        await asyncio.Event().wait()

    async def end(self, state: PlatformState = "stopped", reason: str = "") -> None:
        """Stops every process, stage by stage, and then whatever else they left running."""
        self._state, self._reason = "stopping", reason
        for child in self._children.values():
            child.retire()
        self._record()
        for stage in sorted({child.process.stop_stage for child in self._children.values()}):
            stopping = [child for child in self._children.values() if child.process.stop_stage == stage]
            await asyncio.gather(*(child.stop(self.hurry) for child in stopping))
        await end_marked(self._mark, STRAGGLERS_GRACE_S, self.hurry)
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        for child in self._children.values():
            child.close()
        await self._readiness.close()
        self._state = state
        self._record()

    async def _live(self, child: Child) -> None:
        needed = [self._children[name] for name in child.process.needs if name in self._children]
        for other in needed:
            await other.settled.wait()
            if other.status.state == "halted":
                return
        await child.live()

    def _halted_before(self, waiting: list[Child]) -> str:
        for child in waiting:
            for name in child.process.needs:
                other = self._children.get(name)
                if other is not None and other.status.state == "halted":
                    return f"{name} stopped on purpose, so {child.process.name} cannot start: {other.status.reason}"
        return ""

    def _record(self) -> None:
        # Before `begin` another platform's record may still be there, which is needed to clean up after it.
        if not self._began:
            return
        status = self.status()
        try:
            write(self._settings, status)
        except OSError as error:
            self._say(f"the record of the platform cannot be written: {error}")
        self._on_change(status)


def longest_stop_s() -> float:
    """What the end of a platform takes at most: each stage to its last grace, and then whatever was left running."""
    stages = {process.stop_stage for process in PROCESSES}
    graces_s = (max(process.stop_grace_s for process in PROCESSES if process.stop_stage == stage) for stage in stages)
    return sum(grace_s + KILL_GRACE_S for grace_s in graces_s) + STRAGGLERS_GRACE_S + KILL_GRACE_S


async def end_marked(mark: str, grace_s: float, hurry: asyncio.Event) -> int:
    """Ends every process with this mark: asks, waits up to `grace_s`, kills. Returns how many there were."""
    found = marked(mark)
    for pid in found:
        send(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    left = found
    while left and time.monotonic() < deadline + KILL_GRACE_S:
        if time.monotonic() > deadline or hurry.is_set():
            for pid in left:
                send(pid, signal.SIGKILL)
        await asyncio.sleep(POLL_S)
        left = marked(mark)
    return len(found)
