"""One request run on the engine: an insert, a query whose answer streams, or one whose answer is made whole.

Blocking: the server calls it from a thread, also for every further piece of a streamed answer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.clickhouse.client import ANALYST, BILLING
from adapters.clickhouse.reader_limits import BILLING_LIMITS, ReaderLimits
from services.clickhouse.analyst import DATABASE, ReaderGuard
from services.clickhouse.engine import Engine, use
from services.clickhouse.errors import QueryError, engine_error, read_only
from services.clickhouse.sessions import Sessions
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.statements import Insert, Query, insert_of, query_of
from services.clickhouse.users import User
from services.clickhouse.written_parts import INSERT_SETTINGS, WrittenParts

_INSERT_PIECE_BYTES = 4_194_304
_BAD_ARGUMENTS = 36
_TOO_LARGE = 62
# Formats whose pieces, made one after another, are the whole: no header, no footer around each.
_STREAMED_FORMATS = frozenset(
    {"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow", "JSONCompactEachRow", "JSONLines", "NDJSON"}
)
# The engine streams SELECT alone.
_STREAMED_STATEMENTS = frozenset({"SELECT", "WITH"})
_WRITING_STATEMENTS = frozenset({"INSERT", "OPTIMIZE", "ALTER"})


@dataclass(frozen=True)
class Request:
    """What a client asked. `statement` is the URL's query; a body follows it, or is the statement itself."""

    user: User
    statement: bytes
    body: bytes
    may_write: bool
    database: str | None
    format: str | None
    session_id: str | None
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """`format` None is a statement without a result. Read `pieces` to its end, and call `close` in any case."""

    format: str | None
    summary: bytes
    pieces: Iterator[bytes]
    rows_written: int = 0
    close: Callable[[], None] = lambda: None


def _summary(
    read_rows: int = 0,
    read_bytes: int = 0,
    written_rows: int = 0,
    written_bytes: int = 0,
    result_rows: int = 0,
    elapsed_s: float = 0.0,
) -> bytes:
    values = {
        "read_rows": read_rows,
        "read_bytes": read_bytes,
        "written_rows": written_rows,
        "written_bytes": written_bytes,
        "total_rows_to_read": 0,
        "result_rows": result_rows,
        "result_bytes": 0,
        "elapsed_ns": int(elapsed_s * 1e9),
    }
    return json.dumps({name: str(value) for name, value in values.items()}).encode()


class Execution:
    """Runs requests. Thread-safe; raises QueryError for whatever the client must be told."""

    def __init__(self, engine: Engine, settings: ClickHouseSettings, analyst: ReaderLimits) -> None:
        self._engine = engine
        self._settings = settings
        self._guards = {
            ANALYST: ReaderGuard(engine, settings, analyst),
            BILLING: ReaderGuard(engine, settings, BILLING_LIMITS, any_database=True),
        }
        self._written = WrittenParts(engine)
        self.sessions = Sessions(engine, settings)

    def run(self, request: Request) -> Answer:
        """The beginning of the answer. What fails before its first piece is raised here, so that it has a status."""
        try:
            return self._run(request)
        except QueryError:
            raise
        except UnicodeDecodeError as error:
            raise QueryError(_BAD_ARGUMENTS, "The statement is not UTF-8. (BAD_ARGUMENTS)") from error
        except RuntimeError as error:
            raise engine_error(error) from error

    def _run(self, request: Request) -> Answer:
        sql = request.statement or request.body
        insert = insert_of(sql[: self._settings.statement_bytes_max])
        with contextlib.ExitStack() as held:
            connection = self._connection(request, held)
            if insert is not None:
                return self._insert(request, connection, insert)
            if request.statement and request.body:
                sql = request.statement + b"\n" + request.body
            if len(sql) > self._settings.statement_bytes_max:
                raise QueryError(
                    _TOO_LARGE, f"Max query size exceeded: {self._settings.statement_bytes_max} bytes (SYNTAX_ERROR)"
                )
            query = query_of(sql)
            if request.user.reads_only:
                guard = self._guards[request.user.name]
                guard.check(connection, query, request.parameters, guard.database_for(request.database))
            elif not request.may_write and not _reads(connection, query):
                raise read_only("Cannot execute query in readonly mode: send what modifies with POST, not GET.")
            return self._query(request, connection, query, held)

    def _connection(self, request: Request, held: contextlib.ExitStack) -> Any:
        if request.user.reads_only:
            # No session: nothing that a reader asks may outlive the answer.
            connection = self._engine.connect()
            held.callback(connection.close)
            guard = self._guards[request.user.name]
            database = guard.database_for(request.database)
            use(connection, database, guard.settings_for(request.settings, database))
            connection.query("SET readonly = 1")
            return connection
        if request.session_id is not None:
            connection, busy = self.sessions.borrow(request.session_id)
            held.callback(busy.release)
        else:
            connection = self._engine.connect()
            held.callback(connection.close)
        bounds: dict[str, str | int] = {
            "max_execution_time": self._settings.query_time_max_s,
            "max_result_bytes": self._settings.buffered_answer_bytes_max,
        }
        use(connection, request.database, bounds | dict(request.settings))
        return connection

    def _insert(self, request: Request, connection: Any, insert: Insert) -> Answer:
        if request.user.reads_only or not request.may_write:
            raise read_only("Cannot execute query in readonly mode.")
        in_statement = request.statement or request.body
        payload = memoryview(in_statement)[insert.data_offset :]
        if request.statement and request.body:
            if payload.tobytes().strip():
                raise QueryError(_BAD_ARGUMENTS, "Data in the URL and in the body: send it in one. (BAD_ARGUMENTS)")
            payload = memoryview(request.body)
        use(connection, None, INSERT_SETTINGS)
        with self._written.counted(insert.head, request.database or DATABASE) as rows:
            inserter = connection.send_insert(insert.head, insert.format)
            try:
                for start in range(0, len(payload), _INSERT_PIECE_BYTES):
                    inserter.append(payload[start : start + _INSERT_PIECE_BYTES])
                result = inserter.finish()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what matters is the error that brought us here
                    inserter.cancel()
                raise
            rows.append(result.rows_written)
        summary = _summary(
            written_rows=result.rows_written, written_bytes=result.bytes_written, elapsed_s=result.elapsed
        )
        return Answer(None, summary, iter(()), rows_written=result.rows_written)

    def _query(self, request: Request, connection: Any, query: Query, held: contextlib.ExitStack) -> Answer:
        parameters = dict(request.parameters)
        output = query.format or request.format or "TabSeparated"
        # With its FORMAT clause gone a reader's text is exactly what the guard has read.
        text = query.bare if request.user.reads_only else query.text
        # A reader's answer is bounded and made whole, so that a limit it meets has a status and not half a result.
        if (
            not request.user.reads_only
            and output in _STREAMED_FORMATS
            and query.first_word in _STREAMED_STATEMENTS
            and _reads(connection, query)
        ):
            if "max_result_bytes" not in request.settings:
                connection.query("SET max_result_bytes = 0")
            stream = connection.send_query(text, output, params=parameters)
            pieces = _streamed(stream, held.pop_all().close)
            first = next(pieces, b"")
            return Answer(output, _summary(), itertools.chain((first,) if first else (), pieces), close=pieces.close)
        # Only the names line tells a statement with an empty result from one without a result.
        unasked = query.format is None and output == "TabSeparated"
        try:
            result = connection.query(text, "TabSeparatedWithNames" if unasked else output, params=parameters)
        finally:
            # Also of one that failed: what it has left must not vouch for the next insert.
            if query.first_word in _WRITING_STATEMENTS and not request.user.reads_only:
                self._written.check()
        data = result.bytes() or b""
        summary = _summary(
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            result_rows=result.rows_read(),
            elapsed_s=result.elapsed(),
        )
        if unasked and data:
            return Answer(output, summary, iter((data[data.find(b"\n") + 1 :],)))
        return Answer(output if data else None, summary, iter((data,) if data else ()))


def _reads(connection: Any, query: Query) -> bool:
    verdict = connection._conn.classify_query(query.bare, DATABASE)
    return bool(verdict["query_class"].name == "READ_ONLY" and verdict["statement_count"] == 1)


def _streamed(stream: Any, release: Callable[[], None]) -> Generator[bytes, None, None]:
    try:
        for piece in stream:
            if data := piece.bytes():
                yield data
    except RuntimeError as error:
        raise engine_error(error) from error
    finally:
        try:
            stream.close()
        finally:
            release()
