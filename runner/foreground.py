"""The platform in this process: one run of it from the lock on its home to the last process's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from adapters import secret_files
from adapters.errors import Misconfigured
from runner.child import Pace
from runner.leftovers import end_leftovers
from runner.log_file import RotatedLog
from runner.platform import LocalPlatform, StartFailed
from runner.ports import claims, port_problems
from runner.processes import Process
from runner.running_lock import AlreadyRunning, running_lock
from runner.screen import Screen, screen_for
from runner.settings import PROJECT, RunnerSettings

EXIT_FAILED = 1


def run_foreground(
    settings: RunnerSettings,
    *,
    processes: Sequence[Process] | None = None,
    folder: Path = PROJECT,
    pace: Pace | None = None,
    console: Console | None = None,
) -> int:
    """Runs the platform until SIGINT or SIGTERM; every process is gone when this returns.

    Exit code 0 after a stop that was asked for; 1, with a line on standard error, when it could not be started.
    `processes` are those of the table unless given, started in `folder`.
    """
    try:
        with running_lock(settings):
            screen = screen_for(console or Console())
            log = RotatedLog(settings.logs_dir / "supervisor.log")
            try:
                wanted = settings.processes() if processes is None else processes
                return asyncio.run(_Foreground(settings, wanted, folder, pace, screen, log).run())
            finally:
                screen.close()
                log.close()
    except (AlreadyRunning, Misconfigured, OSError) as error:
        return _complain(str(error))


class _Foreground:
    def __init__(
        self,
        settings: RunnerSettings,
        processes: Sequence[Process],
        folder: Path,
        pace: Pace | None,
        screen: Screen,
        log: RotatedLog,
    ) -> None:
        self._settings = settings
        self._screen = screen
        self._log = log
        self._wanted = processes
        self._folder = folder
        self._pace = pace
        self._asked_to_stop = asyncio.Event()
        self._platform: LocalPlatform | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        _check_engine(self._settings)
        if ended := await end_leftovers(self._settings):
            self._say(f"ended {ended} processes that a killed platform had left running")
        problems = port_problems(claims(self._settings, self._wanted))
        if problems:
            return _complain("\n".join(problems))
        secret_files.make_missing(self._settings.secrets_dir)
        platform = LocalPlatform(
            self._settings,
            self._wanted,
            # A customer's key is for the command alone.
            {name: value for name, value in os.environ.items() if name != "HYDRA_API_KEY"},
            say=self._say,
            on_change=self._screen.show,
            folder=self._folder,
            pace=self._pace,
        )
        self._platform = platform
        try:
            platform.begin()
            await self._until_stopped(platform)
        except StartFailed as error:
            self._note(str(error))
            await platform.end("failed", str(error))
            return _complain(str(error))
        except BaseException:
            await platform.end("failed", "the supervisor failed")
            raise
        await platform.end()
        self._say("every process is stopped")
        return 0

    async def _until_stopped(self, platform: LocalPlatform) -> None:
        stop = asyncio.create_task(self._asked_to_stop.wait())
        settle = asyncio.create_task(platform.wait_until_settled())
        broken = asyncio.create_task(platform.until_broken())
        try:
            await asyncio.wait({stop, settle, broken}, return_when=asyncio.FIRST_COMPLETED)
            if settle.done() and not stop.done():
                self._say(self._greeting(settle.result()))
                await asyncio.wait({stop, broken}, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                broken.result()
        finally:
            for task in (stop, settle, broken):
                task.cancel()

    def _greeting(self, halted: list[str]) -> str:
        if halted:
            return f"not ready: {', '.join(halted)} stopped on purpose; the rest runs"
        api = f": OpenAI's API is at {self._settings.url_of('gateway')}/v1"
        return "the platform is ready" + (api if any(process.name == "gateway" for process in self._wanted) else "")

    def _on_signal(self) -> None:
        if not self._asked_to_stop.is_set():
            self._asked_to_stop.set()
            self._say("stopping every process; once more ends them at once")
        elif self._platform is not None:
            self._platform.hurry.set()

    def _note(self, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # On a full disk the platform goes on, without this line.
        with contextlib.suppress(OSError):
            self._log.write(f"{now} {text}\n".encode())

    def _say(self, text: str) -> None:
        self._note(text)
        # A terminal that is gone must not keep the platform from stopping in order.
        with contextlib.suppress(OSError):
            self._screen.say(text)


def _check_engine(settings: RunnerSettings) -> None:
    if settings.engine == "sglang" and settings.worker_engine is None:
        python = PROJECT / ".tools" / "sglang" / "bin" / "python"
        if not python.exists():
            raise Misconfigured("SGLang is not set up on this machine: run `make sglang` first")


def _complain(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return EXIT_FAILED
