"""Processes as Linux's /proc shows them: whether a recorded one lives, its memory, who bears a platform's mark."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STATE_FIELD = 0
PARENT_FIELD = 1
START_FIELD = 19
RESIDENT_FIELD = 21
"""Fields of /proc/<pid>/stat, counted from the one after the command's name."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

PLATFORM_MARK = "HYDRA_PLATFORM_MARK"
"""A variable in the environment of every process of one run of a platform, by which it is found without a record."""


@dataclass(frozen=True)
class Snapshot:
    """All living processes at one moment: parent and resident memory in bytes by process id."""

    parents: dict[int, int]
    resident_bytes: dict[int, int]

    def resident_with_children(self, pid: int) -> int:
        """Resident memory in bytes of a process and all that descend from it; 0 when it is gone."""
        total = self.resident_bytes.get(pid, 0)
        return total + sum(
            self.resident_with_children(child) for child, parent in self.parents.items() if parent == pid
        )


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when it is gone or a zombie. Unique with the pid."""
    fields = _stat(pid)
    return None if fields is None or fields[STATE_FIELD] in "ZX" else int(fields[START_FIELD])


def lives(pid: int | None, started: int | None) -> bool:
    """Whether the process that was recorded with this id and start is still running."""
    return pid is not None and started is not None and start_ticks(pid) == started


def snapshot() -> Snapshot:
    """Reads the whole process table."""
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for pid in _all():
        if (fields := _stat(pid)) is not None:
            parents[pid] = int(fields[PARENT_FIELD])
            resident[pid] = int(fields[RESIDENT_FIELD]) * PAGE_BYTES
    return Snapshot(parents, resident)


def marked(mark: str, variable: str = PLATFORM_MARK) -> list[int]:
    """Living processes that were started with this mark in their environment, ourselves left out."""
    wanted = f"{variable}={mark}".encode()
    found = []
    for pid in _all():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return [pid for pid in found if start_ticks(pid) is not None]


def send(pid: int, number: signal.Signals) -> None:
    """Signals one process, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def send_to_group(group: int, number: signal.Signals) -> None:
    """Signals every process of a group, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _all() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name may hold blanks and parentheses; nothing after it does.
    return text[text.rindex(")") + 2 :].split()
