"""The clock, as an object, so that a test can hand in one that it moves; and the one place where wall time comes from.

The wall clock is one for the whole process. `move_as_told` moves it from outside, which is how tests of real
processes make it jump. Whatever is stamped, or held against a stamp, is asked here; numbers that only have to grow, and
spans of time, need no right clock.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

REREAD_S = 0.05
"""How often at most the file of the offset is read again."""
OFFSET_S_MAX = 86_400.0


class Clock(Protocol):
    """`now` is wall time in UTC; `monotonic` is seconds that never jump, of no fixed origin."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class _FileOffset:
    """The seconds written in a file; what is no such number leaves the last one in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._offset = timedelta()

    def now(self) -> timedelta:
        at = time.monotonic()
        if at - self._read_at >= REREAD_S:
            self._read_at = at
            try:
                seconds = float(self._path.read_text())
                if abs(seconds) <= OFFSET_S_MAX:
                    self._offset = timedelta(seconds=seconds)
            except (OSError, ValueError):
                pass
        return self._offset


_offset: _FileOffset | None = None


def move_as_told(folder: Path | None, process: str) -> None:
    """From now on add the seconds in this folder's file of the process's name to its wall clock. None: nothing."""
    global _offset
    _offset = _FileOffset(folder / process) if folder is not None else None
    if folder is not None:
        logger.warning("the wall clock is moved by a file, as tests do", extra={"folder": str(folder)})


def wall_now() -> datetime:
    """Wall time in UTC."""
    return datetime.now(UTC) if _offset is None else datetime.now(UTC) + _offset.now()


def wall_lead() -> float:
    """Wall time in seconds since 1970 less monotonic time: the same for ever, unless the wall clock is set."""
    lead = time.time() - time.monotonic()
    return lead if _offset is None else lead + _offset.now().total_seconds()


class SystemClock:
    """This process's clock."""

    def now(self) -> datetime:
        return wall_now()

    def monotonic(self) -> float:
        return time.monotonic()
