"""Brings a ClickHouse to this release's tables and views. Can be run again at any time, and by two at once.

Tables are numbered files, each run once and never edited: `migrations/NNNN_name.sql`, every statement of them
repeatable. Views hold no data, so they are simply made again when their text or the time zone has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import resources

from adapters.clickhouse.client import ClickHouse
from adapters.errors import Misconfigured

_NUMBERED = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_TIME_ZONE = "{{time_zone}}"
_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    name String COMMENT 'File of the migration or of the views',
    checksum String COMMENT 'SHA-256 of the text that was run, in hex',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was run last (UTC)'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (name)
COMMENT 'Which migrations and views this database has'
"""


async def migrate(clickhouse: ClickHouse, time_zone: str) -> list[str]:
    """The names of what was run on the client's database. Days and months of the views follow `time_zone`.

    Raises Misconfigured when a numbered file was edited after it had run, naming it; Unavailable when ClickHouse
    cannot be asked, after which it can be run again.
    """
    await clickhouse.create_database()
    await clickhouse.command(_RECORD)
    applied = dict(await clickhouse.query("SELECT name, checksum FROM schema_migrations FINAL"))
    run: list[str] = []
    for name, text in _files("migrations"):
        if not _NUMBERED.fullmatch(name):
            raise Misconfigured(f"the ClickHouse migration {name} is not named NNNN_name.sql")
        checksum = _checksum(text)
        if applied.get(name, checksum) != checksum:
            raise Misconfigured(
                f"the ClickHouse migration {name} was edited after it had run; restore it and write a new one"
            )
        if name not in applied:
            await _run(clickhouse, name, text, checksum)
            run.append(name)
    for name, text in _files("views"):
        rendered = text.replace(_TIME_ZONE, _literal(time_zone))
        if run or applied.get(f"views/{name}") != _checksum(rendered):
            await _run(clickhouse, f"views/{name}", rendered, _checksum(rendered))
            run.append(f"views/{name}")
    return run


async def _run(clickhouse: ClickHouse, name: str, text: str, checksum: str) -> None:
    for statement in statements(text):
        await clickhouse.command(statement)
    await clickhouse.insert("schema_migrations", ("name", "checksum"), [(name, checksum)])


def statements(text: str) -> Iterator[str]:
    """The statements of a file; each ends with a semicolon at the end of a line."""
    for statement in re.split(r";[ \t]*(?:\n|$)", text):
        if "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip():
            yield statement.strip()


def _files(folder: str) -> list[tuple[str, str]]:
    entries = (resources.files("adapters.clickhouse") / folder).iterdir()
    return sorted((entry.name, entry.read_text("utf-8")) for entry in entries if entry.name.endswith(".sql"))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
