"""Reads Linux's process table: which process is which, and who belongs to an engine's session."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from services.worker.records import EngineProcessRecord

_SESSION_FIELD = 3
_STATE_FIELD = 0
_START_FIELD = 19
"""Fields of /proc/<pid>/stat counted from the one after the command's name."""


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name may hold blanks and parentheses; nothing after it does.
    return text[text.rindex(")") + 2 :].split()


def identify(pid: int) -> EngineProcessRecord | None:
    """The record by which this process is known again, or None when it is gone."""
    fields = _stat(pid)
    return (
        None if fields is None else EngineProcessRecord(pid=pid, start_ticks=int(fields[_START_FIELD]), boot=boot_id())
    )


def session_members(leader: EngineProcessRecord) -> list[int]:
    """Living processes of the session that `leader` opened, itself included; none after a reboot.

    Where another process has the leader's pid by now, the session is over: Linux gives no pid away that is still the
    name of a session.
    """
    if leader.boot != boot_id():
        return []
    known = identify(leader.pid)
    if known is not None and known != leader:
        return []
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is None or fields[_STATE_FIELD] in "ZX" or int(fields[_SESSION_FIELD]) != leader.pid:
            continue
        if int(fields[_START_FIELD]) >= leader.start_ticks:
            members.append(int(entry.name))
    return members


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_session(leader: EngineProcessRecord) -> None:
    """End every process of the session at once."""
    for pid in session_members(leader):
        send(pid, signal.SIGKILL)
