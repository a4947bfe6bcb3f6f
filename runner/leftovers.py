"""Ends what a supervisor that was killed has left running, told from its record and from the mark of its processes."""

from __future__ import annotations

import asyncio
import signal
import time

import msgspec

from runner.child import KILL_GRACE_S
from runner.linux_processes import lives, send, send_to_group
from runner.platform import STRAGGLERS_GRACE_S, end_marked
from runner.processes import PROCESSES
from runner.settings import RunnerSettings
from runner.status import PlatformStatus, ProcessStatus, read_record, write

POLL_S = 0.1
GRACE_S = 15.0

_STAGES = {process.name: process.stop_stage for process in PROCESSES}
_GRACES_S = {process.name: process.stop_grace_s for process in PROCESSES}


async def end_leftovers(settings: RunnerSettings) -> int:
    """Ends them in the order of a normal stop and closes the record; returns how many there were.

    Only to be called by whoever holds the platform's lock, so that no supervisor is starting them again.
    """
    record = read_record(settings)
    if record is None:
        return 0
    alive = [process for process in record.processes if lives(process.pid, process.pid_ticks)]
    for stage in sorted({_stage(process) for process in alive}):
        await _end([process for process in alive if _stage(process) == stage])
    # Started after the last record was written, or started by one of the processes: these bear the mark.
    stragglers = await end_marked(record.mark, STRAGGLERS_GRACE_S, asyncio.Event())
    if record.state not in ("stopped", "failed"):
        write(settings, _closed(record))
    return len(alive) + stragglers


def _stage(process: ProcessStatus) -> int:
    return _STAGES.get(process.name, 1)


async def _end(processes: list[ProcessStatus]) -> None:
    for process in processes:
        if process.pid is not None:
            send(process.pid, signal.SIGTERM)
    grace_s = max(_GRACES_S.get(process.name, GRACE_S) for process in processes)
    deadline = time.monotonic() + grace_s
    while left := [process for process in processes if lives(process.pid, process.pid_ticks)]:
        if time.monotonic() > deadline + KILL_GRACE_S:
            return
        if time.monotonic() > deadline:
            for process in left:
                if process.pid is not None:
                    send_to_group(process.pid, signal.SIGKILL)
        await asyncio.sleep(POLL_S)


def _closed(record: PlatformStatus) -> PlatformStatus:
    processes = tuple(
        msgspec.structs.replace(process, state="stopped", pid=None, pid_ticks=None) for process in record.processes
    )
    reason = "its supervisor was killed; what it left running was ended"
    return msgspec.structs.replace(record, state="stopped", processes=processes, reason=reason)
