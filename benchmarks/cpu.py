"""CPU time of a process that is not ours, and on which core it runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

_SCHEDULED_TIME = 2
"""Linux' number of the clock that counts what the scheduler gave a process, to the nanosecond."""


def cpu_seconds(pid: int) -> float:
    """User and system seconds that the process and its threads have used; its children are not counted."""
    return time.clock_gettime((~pid << 3) | _SCHEDULED_TIME)


def cores_apart() -> tuple[set[int], set[int]]:
    """(the core of what is measured, the cores of all else); the same ones on a machine with a single core."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[-1]}, set(cores[:-1])) if len(cores) > 1 else (set(cores), set(cores))


def pin(pid: int, cores: set[int]) -> None:
    """Keep all threads of a process, and those that they start, on these cores."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)
