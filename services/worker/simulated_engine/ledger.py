"""The engine's own count of what it served: one JSON line per request, counts only, never text.

It is the independent truth that bills are compared with in tests, so it knows nothing of how they are made."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Ledger:
    """Appends whole lines with one write each, so that a kill loses none that was written and cuts none in two."""

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def record(self, **fields: str | int | list[str | None] | None) -> None:
        """Writes one request's line."""
        if self._file is not None:
            os.write(self._file, json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
