"""One engine process: started in a session of its own, told its key, asked to end, ended."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.worker.engine_environment import engine_environment
from services.worker.engine_log import EngineLog
from services.worker.process_table import identify, kill_session, send, session_members
from services.worker.records import EngineProcessRecord

ENGINE_START = Path(__file__).with_name("engine_start.py")
GONE_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class EngineCommand:
    """`target` is `-m MODULE` or a script with its arguments, run by `python`; the key is not among them.

    `environment` comes on top of what engine_environment.py lets through.
    """

    python: Path
    target: tuple[str, ...]
    environment: dict[str, str]


class EngineProcess:
    """A started process. It waits for its key: `admit` it once its `record` is kept."""

    def __init__(self, process: asyncio.subprocess.Process, record: EngineProcessRecord) -> None:
        self._process = process
        self._log: asyncio.Task[None] | None = None
        self.record = record
        self.exited = asyncio.create_task(self._wait(), name=f"engine {record.pid}")

    @classmethod
    async def start(cls, command: EngineCommand) -> EngineProcess:
        """Start the process in a session of its own. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            command.python,
            ENGINE_START,
            str(os.getpid()),
            *command.target,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=engine_environment(os.environ),
        )
        record = identify(process.pid)
        if record is None:
            raise ProcessLookupError(errno.ESRCH, "it was gone at once")
        return cls(process, record)

    async def admit(self, api_key: str, environment: dict[str, str], log: EngineLog) -> None:
        """Hand over the key, upon which the engine loads; its output goes to `log` from here on."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._log = asyncio.create_task(log.copy(self._process.stdout, api_key), name=f"engine log {self.record.pid}")
        self._process.stdin.write(msgspec.json.encode({"api_key": api_key, "environment": environment}) + b"\n")
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            return  # it is gone; its exit says the rest
        self._process.stdin.close()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the number of the signal that ended it."""
        return self._process.returncode

    def terminate(self) -> None:
        """Ask the engine to finish its streams and end. Only its first process is asked: it ends its own."""
        if self.exit_code is None:
            send(self.record.pid, signal.SIGTERM)

    async def kill(self) -> None:
        """End the whole session at once, and return when it is gone."""
        kill_session(self.record)
        await self.exited

    async def _wait(self) -> None:
        await _process_gone(self.record.pid)
        # What the engine left behind would hold memory, GPUs and the log's pipe.
        kill_session(self.record)
        await self._process.wait()
        if self._log is not None:
            await self._log


async def _process_gone(pid: int) -> None:
    """Wait for the process alone: asyncio's own wait may also wait for pipes that the engine's children hold."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        loop.add_reader(handle, gone.set)
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def end_leftover(record: EngineProcessRecord, drain_s: float) -> None:
    """End what an earlier run of the agent left: SIGTERM, `drain_s` for running streams, then SIGKILL. Returns when
    all of it is gone."""
    if not session_members(record):
        return
    send(record.pid, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + drain_s
    while session_members(record):
        if asyncio.get_running_loop().time() >= deadline:
            kill_session(record)
        await asyncio.sleep(GONE_POLL_S)
