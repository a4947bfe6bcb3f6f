"""A log file that starts anew when it is full and keeps the last few: what a process writes never fills the disk."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import BinaryIO

import msgspec

from domain.stops import TO_GO_ON

LOG_BYTES_MAX = 5 * 1024 * 1024
LOGS_KEPT = 3
TAIL_LINES = 20
LINE_BYTES_MAX = 16 * 1024
REASON_LENGTH_MAX = 1_000
SAID_LENGTH_MIN = 200
"""What a reason keeps of its beginning, however long the command at its end."""
CUT = "..."


class RotatedLog:
    """Appends to `path`; when it would pass `bytes_max` it becomes `path.1`, that `path.2` and so on.

    `kept` counts the files, the open one included. Remembers the last lines, to tell why a process ended.
    """

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX, kept: int = LOGS_KEPT) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._kept = kept
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._partial = b""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        """Appends; lines are kept whole where they are shorter than a file."""
        if self._size and self._size + len(data) > self._bytes_max:
            self._rotate()
        self._file.write(data)
        self._file.flush()
        self._size += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._tail.extend(line[:LINE_BYTES_MAX] for line in lines)
        self._partial = self._partial[-LINE_BYTES_MAX:]

    def forget_lines(self) -> None:
        """A new run of the process begins: the last lines of the former tell nothing about it."""
        self._tail.clear()
        self._partial = b""

    def reason(self) -> str:
        """What the process said last, in one line: the `message` of a structured line, else the line itself."""
        for line in reversed([*self._tail, self._partial]):
            if text := _message_of(line):
                return _shortened(text)
        return ""

    def close(self) -> None:
        """Nothing may be written any more."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept - 1, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        self._file = self.path.open("wb")
        self._size = 0


def _shortened(text: str) -> str:
    """Cut to REASON_LENGTH_MAX, but for the command at the end of a stop on purpose: half of one must not be typed."""
    if len(text) <= REASON_LENGTH_MAX:
        return text
    said, marker, command = text.rpartition(TO_GO_ON)
    if not marker:
        return text[: REASON_LENGTH_MAX - len(CUT)] + CUT
    if len(CUT + marker + command) > REASON_LENGTH_MAX - SAID_LENGTH_MIN:
        # Without its options the command changes nothing: it shows them.
        command = f"`{' '.join(command.split()[:3])}` shows what to type"
    end = CUT + marker + command
    return (said[: max(0, REASON_LENGTH_MAX - len(end))] + end)[:REASON_LENGTH_MAX]


def _message_of(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    try:
        structured = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return str(structured.get("message", text)) if isinstance(structured, dict) else text
