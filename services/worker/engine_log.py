"""An engine's log file: what it prints, without its key, rotated by size and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

LINE_READ_MAX = 65_536
LINE_KEPT_MAX = 16_384
"""A line is redacted over what was read of it, then cut, so that no piece of a key stands at a cut."""


def log_path(folder: Path, instance: str) -> Path:
    return folder / f"engine-{instance}.log"


class EngineLog:
    """Appends to `path`; the file before the last rotation is kept as `<path>.1`, each of at most `bytes_max`."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file: BinaryIO | None = None
        self._size = 0

    def note(self, text: str) -> None:
        """A line of the agent's own, between those of the engine."""
        self._append(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n".encode())

    async def copy(self, source: asyncio.StreamReader, secret: str) -> None:
        """Write the lines of `source` until it ends. `secret` appears in none of them."""
        hidden = secret.encode()
        try:
            async for line in _lines(source):
                self._append(line.replace(hidden, b"***")[:LINE_KEPT_MAX] + b"\n")
        finally:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        try:
            if self._file is None or self._size + len(line) > self._bytes_max:
                self._open()
            assert self._file is not None
            self._file.write(line)
            self._file.flush()
            self._size += len(line)
        except OSError as error:
            # An engine must not stop because its log cannot be written.
            logger.warning("engine log line lost", extra={"file": self._path.name, "cause": error.strerror})

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size >= self._bytes_max // 2:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("ab")
        self._size = self._file.tell()


async def _lines(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of at most LINE_READ_MAX bytes; of a longer one the rest is dropped."""
    pending = b""
    dropping = False
    while piece := await source.read(LINE_READ_MAX):
        *ended, pending = (pending + piece).split(b"\n")
        for line in ended:
            if not dropping:
                yield line
            dropping = False
        if dropping:
            pending = b""
        elif len(pending) >= LINE_READ_MAX:
            yield pending
            pending, dropping = b"", True
    if pending:
        yield pending


def prune(folder: Path, kept: int, *, keep: Collection[str]) -> None:
    """Remove the oldest engine logs beyond `kept` instances, never those of the instances in `keep`."""
    in_use = {log_path(folder, instance) for instance in keep}
    try:
        logs = sorted(folder.glob("engine-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[kept:]:
            if path not in in_use:
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".1").unlink(missing_ok=True)
    except OSError as error:
        logger.warning("engine logs not pruned", extra={"cause": error.strerror})
