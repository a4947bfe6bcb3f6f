"""The engine on its folder: opened once a process, locked against a second one, one light connection a query."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from adapters.errors import Misconfigured
from services.clickhouse.errors import QueryError, engine_error
from services.clickhouse.settings import ClickHouseSettings

if TYPE_CHECKING:
    from typing import TextIO

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNKNOWN_SETTING = 115


class Engine:
    """The open engine. Blocking throughout: call it from a thread. A connection may pass from thread to thread, but
    serves one at a time."""

    def __init__(self, folder: Path, settings: ClickHouseSettings) -> None:
        """Opens `folder`, making what is missing. Raises Misconfigured when another process holds it, or when the
        engine cannot start on it."""
        # Importing the engine maps several hundred megabytes and starts threads: not before it is wanted.
        import chdb

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(folder)
        config = _config_file(folder, settings)
        # Without a file of our own the engine would load ./config.xml of whatever folder it was started in.
        self._address = f"{folder / 'data'}?config-file={config}"
        self._connect = chdb.connect
        try:
            self._keeper = self.connect()
            self.version, self.time_zone = _tsv(self._keeper.query("SELECT version(), timezone()", "TSV"))[0]
            self._keeper.query("CREATE DATABASE IF NOT EXISTS hydra")
        except RuntimeError as error:
            self._lock.close()
            raise Misconfigured(f"the ClickHouse engine cannot start on {folder}: {engine_error(error)}") from error

    def connect(self) -> Any:
        """A connection of its own session and settings; about 1 ms. The caller closes it."""
        return self._connect(self._address)

    def rows(self, sql: str) -> list[list[str]]:
        """The rows of a query of our own, as text."""
        connection = self.connect()
        try:
            return _tsv(connection.query(sql, "TSV"))
        finally:
            connection.close()

    def close(self) -> None:
        """Lets the engine write what it holds and unlocks the folder. Every other connection must be closed before."""
        self._keeper.close()
        self._lock.close()


def use(connection: Any, database: str | None, settings: Mapping[str, str | int]) -> None:
    """Put a database and settings on a connection. Raises QueryError for a name that is none."""
    for name in settings:
        if not _SETTING_NAME.fullmatch(name):
            raise QueryError(_UNKNOWN_SETTING, f"Unknown setting {name[:64]!r} (UNKNOWN_SETTING)")
    if database:
        connection.query("USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")
    if settings:
        connection.query("SET " + ", ".join(f"{name} = {_literal(value)}" for name, value in settings.items()))


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _tsv(result: Any) -> list[list[str]]:
    text = (result.bytes() or b"").decode()
    return [line.split("\t") for line in text.splitlines()]


def _locked(folder: Path) -> TextIO:
    """A lock that dies with its process, kill -9 included: two engines on one folder would destroy it."""
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Misconfigured(f"another process holds the ClickHouse folder {folder}") from error
    return lock


def _config_file(folder: Path, settings: ClickHouseSettings) -> Path:
    """The engine's configuration. What reaches outside is shut here too: no file of the machine, no host."""
    files = folder / "user_files"
    files.mkdir(mode=0o700, exist_ok=True)
    path = folder / "config.xml"
    path.write_text(
        f"""<clickhouse>
    <timezone>UTC</timezone>
    <max_server_memory_usage>{settings.memory_bytes_max}</max_server_memory_usage>
    <max_concurrent_queries>{settings.concurrent_queries_max + 8}</max_concurrent_queries>
    <mark_cache_size>134217728</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <storage_configuration><disks><default>
        <keep_free_space_bytes>{settings.keep_free_bytes}</keep_free_space_bytes>
    </default></disks></storage_configuration>
    <user_files_path>{escape(str(files))}/</user_files_path>
    <remote_url_allow_hosts><host>nowhere.invalid</host></remote_url_allow_hosts>
    <merge_tree>
        <fsync_after_insert>{int(settings.fsync_inserts)}</fsync_after_insert>
        <fsync_part_directory>{int(settings.fsync_inserts)}</fsync_part_directory>
    </merge_tree>
</clickhouse>
"""
    )
    return path
