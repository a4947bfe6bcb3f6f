"""One supervised process: started in a group of its own, its output kept, watched, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from adapters.errors import EXIT_STOP_ON_PURPOSE
from runner.linux_processes import send, send_to_group, start_ticks
from runner.log_file import RotatedLog
from runner.processes import Process
from runner.readiness import Ask
from runner.status import ProcessState, ProcessStatus

READ_BYTES = 65_536

# A killed process may hang in the kernel, on a dead disk for instance; then it is left to the kernel.
KILL_GRACE_S = 10.0


@dataclass(frozen=True)
class Pace:
    """Times in seconds. A process that lived for `steady_s` begins again with the shortest pause."""

    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0
    steady_s: float = 60.0
    poll_s: float = 0.1
    ask_while_starting_s: float = 0.3
    ask_s: float = 2.0
    unanswered_max: int = 3


class Child:
    """The life of one process of the table, through all its starts. `on_change` is called at each change of status.

    One that stopped on purpose is started again once `resume_file` exists.
    """

    def __init__(
        self,
        process: Process,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: RotatedLog,
        ask: Ask,
        *,
        port: int | None,
        on_change: Callable[[], None],
        say: Callable[[str], None],
        resume_file: Path,
        pace: Pace | None = None,
    ) -> None:
        self.process = process
        self.settled = asyncio.Event()
        """Set once it was ready, or halted, or is a step that is done."""
        self.deaths_before_ready = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._log = log
        self._ask = ask
        self._on_change = on_change
        self._say = say
        self._resume_file = resume_file
        self._pace = pace or Pace()
        self._retired = asyncio.Event()
        self._running: subprocess.Popen[bytes] | None = None
        self.status = ProcessStatus(name=process.name, kind=process.kind, state="waiting", port=port, log=str(log.path))

    async def live(self) -> None:
        """Starts the process, and again when it dies, until it is retired or is a finished step."""
        pause_s = self._pace.first_pause_s
        while not self._retired.is_set():
            begun = time.monotonic()
            code = await self._run_once()
            if self._retired.is_set():
                break
            if code == 0 and self.process.probe == "exit":
                # A step's last word tells what it found, such as which of two ways is taken.
                self._change(state="done", pid=None, reason=self._log.reason())
                self.settled.set()
                return
            reason = self._why_ended(code)
            if code == EXIT_STOP_ON_PURPOSE:
                if not await self._told_to_go_on(reason):
                    return
                pause_s = self._pace.first_pause_s
                continue
            if not self.settled.is_set():
                self.deaths_before_ready += 1
            if time.monotonic() - begun >= self._pace.steady_s:
                pause_s = self._pace.first_pause_s
            self._change(state="restarting", pid=None, reason=reason, restarts=self.status.restarts + 1)
            self._say(f"{self.process.name} ended ({reason}); it is started again in {pause_s:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._retired.wait()
            pause_s = min(pause_s * 2, self._pace.longest_pause_s)
        self._change(state="stopped", pid=None, reason="")

    async def _told_to_go_on(self, reason: str) -> bool:
        """Waits, halted, until `hydra resume` asks for another start; False once it is retired instead."""
        # What was asked for before this stop was not about it.
        self._resume_file.unlink(missing_ok=True)
        self._change(state="halted", pid=None, reason=reason)
        self._say(f"{self.process.name} stopped on purpose and is not started again: {reason}")
        self.settled.set()
        while not self._resume_file.exists():
            if self._retired.is_set():
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.ask_while_starting_s):
                    await self._retired.wait()
        # In this order, or whoever waits for the file to go could still read of the old stop.
        self._change(state="starting", reason="")
        self._resume_file.unlink(missing_ok=True)
        self._say(f"{self.process.name} is started again, as the operator asked")
        return True

    def close(self) -> None:
        """After its end, also when it was never begun."""
        if self.status.state in ("waiting", "restarting"):
            self._change(state="stopped")
        self._log.close()

    def retire(self) -> None:
        """From now on a death is final."""
        self._retired.set()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Asks the process to end, and kills its whole group after its grace, or at once when `hurry` is set."""
        self.retire()
        running = self._running
        if running is None:
            return
        self._change(state="stopping")
        send(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.process.stop_grace_s
        while self._running is running and time.monotonic() < deadline + KILL_GRACE_S:
            if time.monotonic() > deadline or hurry.is_set():
                send_to_group(running.pid, signal.SIGKILL)
            await asyncio.sleep(self._pace.poll_s)

    async def _run_once(self) -> int:
        self._log.forget_lines()
        try:
            running, output = self._spawn()
        except OSError as error:
            self._log.write(f"cannot be started: {error}\n".encode())
            return 1
        self._running = running
        ticks = start_ticks(running.pid)
        # Until it is ready the reason of its last death stays: that is what is wrong.
        self._change(state="starting", pid=running.pid, pid_ticks=ticks, started=time.time())
        loop = asyncio.get_running_loop()
        loop.add_reader(output, self._keep, output)
        watch = asyncio.create_task(self._watch())
        try:
            return await self._exit_of(running)
        finally:
            watch.cancel()
            # Whoever the process started in its own group must not outlive it, or it holds ports and files.
            send_to_group(running.pid, signal.SIGKILL)
            self._keep(output)
            loop.remove_reader(output)
            os.close(output)
            self._running = None

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        """The process, and our end of the pipe into which it writes. Raises OSError."""
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        try:
            running = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(write_end)
        return running, output

    async def _exit_of(self, running: subprocess.Popen[bytes]) -> int:
        # asyncio's own children end only once their pipes are closed, which a grandchild may hold open.
        while True:
            code = running.poll()
            if code is not None:
                return code
            await asyncio.sleep(self._pace.poll_s)

    def _keep(self, output: int) -> None:
        """Moves what the process has written to its log; on a full disk the output is lost, not the process."""
        try:
            data = os.read(output, READ_BYTES)
            if not data:
                asyncio.get_running_loop().remove_reader(output)
                return
            self._log.write(data)
        except OSError:
            return

    async def _watch(self) -> None:
        unanswered = 0
        while self.process.probe != "exit":
            answer = await self._ask(self.process)
            unanswered = 0 if answer.answered else unanswered + 1
            state = self.status.state
            if state == "stopping":
                return
            if answer.ready:
                self._change(state="ready", reason=answer.reason)
                self.settled.set()
            elif state == "starting" and answer.answered:
                self._change(reason=answer.reason)
            elif state == "not_ready" or (
                state == "ready" and (answer.answered or unanswered >= self._pace.unanswered_max)
            ):
                self._change(state="not_ready", reason=answer.reason)
            in_order = self.status.state == "ready"
            await asyncio.sleep(self._pace.ask_s if in_order else self._pace.ask_while_starting_s)

    def _why_ended(self, code: int) -> str:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = self._log.reason()
        if code == EXIT_STOP_ON_PURPOSE and said:
            return said
        # Whoever is killed has not said why.
        return f"{how}: {said}" if said and code != -signal.SIGKILL else how

    def _change(self, **fields: ProcessState | str | int | float | None) -> None:
        changed = msgspec.structs.replace(self.status, **fields)
        if changed != self.status:
            self.status = changed
            self._on_change()
