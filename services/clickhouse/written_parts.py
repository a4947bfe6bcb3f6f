"""Whether what the engine says that it has written is there: chdb-core 26.9 hides what goes wrong at an insert's end.

Two ways were seen. A streamed insert that finds no room ends well and has written nothing. And errors of write(2) are
ignored: on a full or dying disk an INSERT, or a merge, ends well and leaves files cut short. So inserts run one at a
time, and their rows are counted and all new parts looked at before one is acknowledged.

Rows that are missing are refused to whoever sent them, who sends them again. Where a part is broken the process ends
at once, for only a start of the engine repairs that: it lays the part aside (`detached/`) and takes those up again that
were merged into it, which it keeps for minutes.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from services.clickhouse.engine import Engine
from services.clickhouse.errors import NOT_ENOUGH_SPACE, QueryError

log = logging.getLogger(__name__)

EXIT_LOST_WRITE = 1
READ_WHOLE_BYTES_MAX = 8_388_608
"""Larger parts are made by merges; of these the sizes of their files are compared, without reading them all again."""
INSERT_SETTINGS = {"optimize_on_insert": 0}
"""Rows of one insert with the same key stay until a merge, so that they can be counted. Readers use FINAL anyway."""

_PARTS = """
SELECT database, table, name, path, bytes_on_disk, rows, level, active FROM system.parts WHERE database != 'system'
"""
_ROOM = "SELECT formatReadableSize(unreserved_space) FROM system.disks WHERE name = 'default'"
_NAME = r"`((?:[^`\\]|\\.|``)+)`|\"((?:[^\"\\]|\\.)+)\"|([A-Za-z_][A-Za-z0-9_]*)"
_TARGET = re.compile(rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?:{_NAME})(?:\s*\.\s*(?:{_NAME}))?", re.IGNORECASE)


class Part(NamedTuple):
    """A part of a table as the engine knows it; `bytes` are what its files must at least have, all together."""

    database: str
    table: str
    name: str
    path: str
    bytes: int
    rows: int
    level: int
    active: bool


class WrittenParts:
    """Remembers which parts there were. Those that the engine has loaded it has checked itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_at_a_time = threading.Lock()
        self._known = {part.path for part in self._parts()}

    def check(self) -> None:
        """After any other statement that writes; ends the process where a new part is not whole."""
        with self._one_at_a_time:
            self._new_parts()

    @contextmanager
    def counted(self, head: str, database: str) -> Iterator[list[int]]:
        """Around an insert, which appends the number of its rows to what it is given. Raises QueryError where the
        engine does not have them; ends the process where a new part is not whole."""
        rows: list[int] = []
        with self._one_at_a_time:
            try:
                yield rows
            except BaseException:
                self._new_parts()  # what it has left must not vouch for the next one
                raise
            new = self._new_parts()
            target = _target_of(head, database)
            kept = sum(part.rows for part in new if part.level == 0 and (part.database, part.table) == target)
            if kept < sum(rows) and self._keeps_parts(target):
                room = self._engine.rows(_ROOM)[0][0]
                found = [(part.name, part.rows, part.active) for part in new if (part.database, part.table) == target]
                log.warning("rows of an insert are missing", extra={"table": target[1], "new_parts": str(found)})
                raise QueryError(
                    NOT_ENOUGH_SPACE,
                    f"Of {sum(rows)} rows for {target[1]} only {kept} were kept: not enough space, the disk has {room} "
                    "left of what may be used (NOT_ENOUGH_SPACE)",
                )

    def _new_parts(self) -> list[Part]:
        parts = self._parts()
        new = [part for part in parts if part.path not in self._known]
        for part in new:
            if part.active and not self._is_whole(part) and self._is_active(part):
                _end(part)
        self._known = {part.path for part in parts}
        return new

    def _parts(self) -> list[Part]:
        return [
            Part(database, table, name, path, int(size), int(rows), int(level), active == "1")
            for database, table, name, path, size, rows, level, active in self._engine.rows(_PARTS)
        ]

    def _is_active(self, part: Part) -> bool:
        return any(one.active and one.path == part.path for one in self._parts())

    def _is_whole(self, part: Part) -> bool:
        try:
            found = sum(entry.stat().st_size for entry in os.scandir(part.path) if entry.is_file())
        except FileNotFoundError:  # merged into another one meanwhile
            return False
        if found < part.bytes:
            return False
        if part.bytes > READ_WHOLE_BYTES_MAX:
            return True
        try:
            rows = self._engine.rows(f"CHECK TABLE `{part.database}`.`{part.table}` PART '{part.name}'")
        except RuntimeError as error:
            log.warning("a part cannot be checked", extra={"part": part.name, "cause": str(error)[:300]})
            return False
        return all(row[1] == "1" for row in rows)

    def _keeps_parts(self, target: tuple[str, str]) -> bool:
        """Whether the table is one of the MergeTree family: others, such as Memory, have no parts to count."""
        engines = [row for row in self._engine.rows("SELECT database, name, engine FROM system.tables")]
        return any((database, name) == target and "MergeTree" in engine for database, name, engine in engines)


def _target_of(head: str, database: str) -> tuple[str, str]:
    """Database and table of an insert."""
    found = _TARGET.match(head)
    if found is None:
        return database, ""
    first, second = (next(filter(None, found.groups()[at : at + 3]), "") for at in (0, 3))
    return (first, second) if second else (database, first)


def _end(part: Part) -> None:
    log.critical(
        "the disk has not taken what ClickHouse's engine wrote to %s.%s (full, or broken); "
        "starting again lays the broken part %s aside",
        part.database,
        part.table,
        part.name,
    )
    logging.shutdown()
    os._exit(EXIT_LOST_WRITE)
