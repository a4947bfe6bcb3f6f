"""The client: clickhouse-connect's async client behind Hydra's errors, made at its first use, every wait bounded."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError

from adapters import secret_files
from adapters.clickhouse.columns import as_columns
from adapters.clickhouse.statement_lists import with_lists
from adapters.errors import Misconfigured, Rejected, Unavailable

_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ADMIN: Final = "hydra"
ANALYST: Final = "analyst"
BILLING: Final = "billing"
_READERS = frozenset({ANALYST, BILLING})
# What ClickHouse says of data that no repetition makes good: cannot parse, out of bound, overflow, constraint.
_CODES_OF_BAD_DATA = frozenset({6, 26, 27, 38, 41, 69, 72, 117, 131, 321, 407, 441, 469})
_MESSAGE_LENGTH_MAX = 500


@dataclass(frozen=True)
class ClickHouseAddress:
    """Where a ClickHouse is and who asks. `url` is `http[s]://host:port`."""

    url: str
    user: str
    password: str
    database: str = "hydra"

    @classmethod
    def with_password_file(cls, url: str, user: str, password_file: Path, database: str = "hydra") -> ClickHouseAddress:
        """Raises Misconfigured where the file is absent, empty or readable by others."""
        return cls(url, user, secret_files.read(password_file.parent, password_file.name), database)


class ClickHouse:
    """One pool of connections. Every call raises Unavailable when ClickHouse cannot be asked or fails to answer."""

    def __init__(
        self,
        address: ClickHouseAddress,
        *,
        connect_timeout_s: int = 5,
        answer_timeout_s: int = 60,
        query_time_max_s: int = 30,
        connections_max: int = 8,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """`answer_timeout_s` bounds the wait for an answer, `query_time_max_s` the query in ClickHouse itself.
        `settings` are ClickHouse's and go with every statement."""
        parts = urlsplit(address.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misconfigured(f"HYDRA_CLICKHOUSE_URL is {address.url!r}; it must be http://host:port")
        self._address = address
        self._host, self._secure = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (8443 if self._secure else 8123)
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._connections_max = connections_max
        # A reader's limits are the server's, and it may set none.
        self._settings = (
            {} if address.user in _READERS else {"max_execution_time": query_time_max_s, **(settings or {})}
        )
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._column_types: dict[str, dict[str, str]] = {}

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one query; `{name:Type}` in it stands for a parameter. Instants come back aware, in UTC."""
        client = await self._connected()
        sql, rest = with_lists(sql, parameters or {})
        async with _translated(self._answer_timeout_s):
            result = await client.query(sql, parameters=rest)
            return list(result.result_rows)

    async def query_named(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """As `query`, each row by its columns' names."""
        client = await self._connected()
        sql, rest = with_lists(sql, parameters or {})
        async with _translated(self._answer_timeout_s):
            result = await client.query(sql, parameters=rest)
            names = result.column_names
            return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    async def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """A statement without a result."""
        client = await self._connected()
        sql, rest = with_lists(sql, parameters or {})
        async with _translated(self._answer_timeout_s):
            await client.command(sql, parameters=rest)

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """Write the rows, all of them. Raises Rejected when the data itself is refused, and Unavailable when fewer
        rows were written than sent: then send them all again, ids make repeats harmless."""
        if not rows:
            return 0
        client = await self._connected()
        async with _translated(self._answer_timeout_s):
            types = await self._types_of(client, table)
            try:
                summary = await client.insert(
                    table,
                    as_columns(rows, [types[column] for column in columns]),
                    column_names=list(columns),
                    column_type_names=[types[column] for column in columns],
                    column_oriented=True,
                )
            except (OverflowError, ValueError, TypeError, struct.error) as error:
                raise Rejected("invalid", f"a value fits no column of {table}: {error}") from error
        if summary.written_rows != len(rows):
            raise Unavailable(f"ClickHouse wrote {summary.written_rows} of {len(rows)} rows to {table}")
        return len(rows)

    async def _types_of(self, client: AsyncClient, table: str) -> dict[str, str]:
        """The columns' types, asked for once a table: not per insert."""
        if table not in self._column_types:
            described = await client.query(
                "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
                parameters={"database": self._address.database, "table": table},
            )
            self._column_types[table] = dict(described.result_rows)
        if not self._column_types[table]:
            del self._column_types[table]
            raise Unavailable(f"ClickHouse has no table {table} yet: its migrations have not run")
        return self._column_types[table]

    async def create_database(self) -> None:
        """Makes this client's database where it is missing. Raises Misconfigured for a name that is none."""
        name = self._address.database
        if not _DATABASE_NAME.fullmatch(name):
            raise Misconfigured(f"{name!r} is no name of a ClickHouse database")
        # By a client of its own: one that names a missing database is refused whatever it asks.
        elsewhere = ClickHouse(replace(self._address, database="default"), connections_max=1)
        try:
            await elsewhere.command(f"CREATE DATABASE IF NOT EXISTS `{name}`")
        finally:
            await elsewhere.close()

    async def ready(self) -> bool:
        """Whether ClickHouse answers a query of this user now."""
        try:
            return await self.query("SELECT 1") == [(1,)]
        except Unavailable:
            return False

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                async with _translated(self._answer_timeout_s):
                    self._client = await clickhouse_connect.get_async_client(
                        host=self._host,
                        port=self._port,
                        secure=self._secure,
                        username=self._address.user,
                        password=self._address.password,
                        # Not the database: it may not exist yet when the migrations connect.
                        database="",
                        connect_timeout=self._connect_timeout_s,
                        send_receive_timeout=self._answer_timeout_s,
                        connector_limit=self._connections_max,
                        connector_limit_per_host=self._connections_max,
                        tz_mode="aware",
                        autogenerate_session_id=False,
                        client_name="hydra",
                        settings=self._settings,
                    )
                    self._client.database = self._address.database
            return self._client


class _translated:
    """clickhouse-connect's and the network's errors as Hydra's, within a bound of time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = asyncio.timeout(timeout_s)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise Unavailable(f"ClickHouse did not answer within {self._timeout_s:g} s") from late
        if isinstance(error, DataError) or code_of(error) in _CODES_OF_BAD_DATA:
            raise Rejected("invalid", f"ClickHouse refuses the data: {_said(error)}") from error
        if isinstance(error, ClickHouseError | aiohttp.ClientError | OSError):
            raise Unavailable(f"ClickHouse: {_said(error)}") from error


def code_of(error: BaseException | None) -> int:
    """ClickHouse's number of an error; 0 where it has none."""
    for cause in (error, error.__cause__ if error else None):
        number = getattr(cause, "code", None)
        if isinstance(number, int):
            return number
    return 0


def _said(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:_MESSAGE_LENGTH_MAX]
