"""The engine's own count of what it served: one JSON line per request, counts only, never text.

It is the independent truth that bills are compared with in tests, so it knows nothing of how they are made."""

from __future__ import annotations

import json
import os
from pathlib import Path

SLOT_BYTES = 512


class Ledger:
    """Appends whole lines with one write each, so that a kill loses none that was written and cuts none in two.

    What streams have reported so far stands beside it, in `PATH.running`, a slot each, written anew with every report;
    what an engine that was killed had reported goes into the ledger at the next start, as `killed`.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: int | None = None
        self._running = -1
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            beside = path.with_name(f"{path.name}.running")
            self._running = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
            for text in beside.read_text().splitlines():
                if text.strip():
                    self.record(**(json.loads(text) | {"ended": "killed"}))
            os.ftruncate(self._running, 0)

    def report(self, rid: str, **fields: int) -> None:
        """Notes what a stream is about to say of a request that goes on. Raises ValueError for too long an id."""
        if self._file is None:
            return
        line = _line({"rid": rid, **fields, "ended": "running"})
        if len(line) > SLOT_BYTES:
            raise ValueError(f"a report of {len(line)} bytes does not fit its {SLOT_BYTES}")
        if rid not in self._slots:
            self._slots[rid] = self._free.pop() if self._free else len(self._slots)
        self._write_slot(self._slots[rid], line)

    def record(self, rid: str | None, **fields: str | int | list[str | None] | None) -> None:
        """Writes one request's line."""
        if self._file is None:
            return
        os.write(self._file, _line({"rid": rid, **fields}))
        if rid is not None and (slot := self._slots.pop(rid, None)) is not None:
            self._write_slot(slot, b"\n")
            self._free.append(slot)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            os.close(self._file)
            os.close(self._running)
            self._file = None

    def _write_slot(self, slot: int, line: bytes) -> None:
        os.pwrite(self._running, line[:-1].ljust(SLOT_BYTES - 1) + b"\n", slot * SLOT_BYTES)


def _line(fields: dict[str, str | int | list[str | None] | None]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
