"""ClickHouse's HTTP interface (ASGI): who asks, what for, and the answer with ClickHouse's headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from adapters.clickhouse.reader_limits import BILLING_LIMITS, ReaderLimits
from adapters.process_metrics import Exposition
from services.clickhouse import observation
from services.clickhouse.bodies import ClientGone, Receive, form_fields, read_body, unpacked
from services.clickhouse.engine import Engine
from services.clickhouse.errors import QueryError, engine_error
from services.clickhouse.execution import Answer, Execution, Request
from services.clickhouse.places import Places
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.users import User, Users

log = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")

# What HTTP itself uses of the URL; every other parameter is a setting of the engine.
_TRANSPORT_WORDS = (
    "query database default_format session_id session_timeout session_check query_id user password quota_key compress "
    "decompress wait_end_of_query buffer_size client_protocol_version role send_progress_in_http_headers "
    "http_headers_progress_interval_ms enable_http_compression http_write_exception_in_output_format "
    "http_zlib_compression_level network_compression_method"
)
_TRANSPORT = frozenset(_TRANSPORT_WORDS.split())
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_PARAMETER = "param_"
_CONTENT_TYPES = {
    "JSON": b"application/json; charset=UTF-8",
    "JSONCompact": b"application/json; charset=UTF-8",
    "JSONEachRow": b"application/x-ndjson; charset=UTF-8",
    "CSV": b"text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": b"text/csv; charset=UTF-8; header=present",
    "Native": b"application/octet-stream",
    "RowBinary": b"application/octet-stream",
    "Arrow": b"application/octet-stream",
    "ArrowStream": b"application/octet-stream",
    "Parquet": b"application/octet-stream",
}
_HEALTH_TIMEOUT_S = 5
_LAST_WORD_S = 5


class ClickHouseServer:
    """The ASGI application. Made inside the event loop that serves it; `close` after the last request."""

    def __init__(self, engine: Engine, users: Users, settings: ClickHouseSettings, analyst: ReaderLimits) -> None:
        self._engine = engine
        self._users = users
        self._settings = settings
        self._execution = Execution(engine, settings, analyst)
        self._places = Places(settings, (analyst, BILLING_LIMITS))
        # One thread more than places, so that health is answered while every place is taken.
        self._threads = ThreadPoolExecutor(settings.concurrent_queries_max + 2, thread_name_prefix="query")
        self._check: asyncio.Future[list[list[str]]] | None = None
        self._ready = False
        self._exposition = Exposition(observation.REGISTRY, lambda: self._ready)

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self._execution.sessions.close()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here, only HTTP")
        path, method = scope["path"], scope["method"]
        parameters = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if path == "/metrics":
            observation.SESSIONS.set(len(self._execution.sessions))
            self._ready = not await self._why_not_ready()
            await _reply(send, 200, self._exposition.text(), CONTENT_TYPE_LATEST.encode())
        elif path == "/health/live":
            await _reply(send, 200, b'{"status":"live","reason":""}', _CONTENT_TYPES["JSON"])
        elif path == "/health/ready":
            await self._health(send)
        elif path == "/ping" or (path == "/" and method in ("GET", "HEAD") and "query" not in parameters):
            await _reply(send, 200, b"Ok.\n", b"text/plain; charset=UTF-8")
        elif path != "/" or method not in ("GET", "POST"):
            await _reply(send, 404, b"There is / for queries and /ping.\n", b"text/plain; charset=UTF-8")
        else:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            await self._statement(method, headers, parameters, receive, send)

    async def _health(self, send: Send) -> None:
        reason = await self._why_not_ready()
        verdict = {"status": "not_ready" if reason else "ready", "reason": reason}
        await _reply(send, 503 if reason else 200, msgspec.json.encode(verdict), _CONTENT_TYPES["JSON"])

    async def _why_not_ready(self) -> str:
        # One check at a time, and not waited for past its time: a stuck engine must not gather them.
        if self._check is None or self._check.done():
            self._check = asyncio.get_running_loop().run_in_executor(self._threads, self._engine.rows, "SELECT 1")
        await asyncio.wait({self._check}, timeout=_HEALTH_TIMEOUT_S)
        if not self._check.done():
            return f"the engine has not answered for {_HEALTH_TIMEOUT_S} s"
        return "" if self._check.exception() is None else "the engine answers with an error"

    async def _statement(
        self, method: str, headers: Mapping[str, str], parameters: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        query_id = parameters.get("query_id", "")
        if not _NAME.fullmatch(query_id):  # it goes into a header
            query_id = str(uuid.uuid4())
        about: Headers = [
            (b"x-clickhouse-server-display-name", b"hydra-embedded"),
            (b"x-clickhouse-timezone", self._engine.time_zone.encode()),
            (b"x-clickhouse-query-id", query_id.encode()),
        ]
        user_name, code, started = "", 0, time.monotonic()
        try:
            # The login comes before the body, so that a stranger's body is never held.
            user = self._users.authenticate(headers, parameters)
            user_name = user.name
            bytes_max = self._settings.statement_bytes_max if user.reads_only else self._settings.body_bytes_max
            # The place comes before the body too, so that so many bodies are held and no more.
            async with self._places.taken(user):
                body = await read_body(receive, bytes_max, self._settings.body_time_max_s)
                started = time.monotonic()
                request = await self._request(user, method, headers, parameters, body, bytes_max)
                answer = await self._in_thread(lambda: self._execution.run(request))
                observation.ROWS_WRITTEN.inc(answer.rows_written)
                await self._send_answer(answer, about, receive, send)
        except QueryError as error:
            code = error.code
            about.append((b"x-clickhouse-exception-code", str(code).encode()))
            text = error.text(self._engine.version).encode()
            await _reply(send, error.status, text, b"text/plain; charset=UTF-8", about)
        except ClientGone:
            code = 210  # NETWORK_ERROR
        finally:
            observation.QUERIES.labels(user_name, str(code)).inc()
            observation.SECONDS.labels(user_name).observe(time.monotonic() - started)

    async def _request(
        self,
        user: User,
        method: str,
        headers: Mapping[str, str],
        parameters: Mapping[str, str],
        body: bytes,
        bytes_max: int,
    ) -> Request:
        encoding = headers.get("content-encoding", "").lower()
        if encoding:
            body = await self._in_thread(lambda: unpacked(body, encoding, bytes_max))
        if headers.get("content-type", "").startswith("multipart/form-data"):
            # How clients send parameters that are too long for the URL.
            form, content_type = body, headers["content-type"]
            fields = await self._in_thread(lambda: form_fields(form, content_type))
            parameters, body = {**parameters, **fields}, b""
        asked_format = parameters.get("default_format") or headers.get("x-clickhouse-format")
        if asked_format and not _NAME.fullmatch(asked_format):  # it comes back in a header
            raise QueryError(73, "Unknown format (UNKNOWN_FORMAT)", status=400)
        return Request(
            user=user,
            statement=parameters.get("query", "").encode(),
            body=body,
            may_write=method == "POST",
            database=parameters.get("database") or headers.get("x-clickhouse-database"),
            format=asked_format,
            session_id=parameters.get("session_id"),
            settings={
                name: value
                for name, value in parameters.items()
                if name not in _TRANSPORT and not name.startswith(_PARAMETER)
            },
            parameters={
                name.removeprefix(_PARAMETER): value
                for name, value in parameters.items()
                if name.startswith(_PARAMETER)
            },
        )

    async def _send_answer(self, answer: Answer, about: Headers, receive: Receive, send: Send) -> None:
        tag = secrets.token_hex(8)
        headers = [*about, (b"x-clickhouse-summary", answer.summary), (b"x-clickhouse-exception-tag", tag.encode())]
        kind = b"text/plain; charset=UTF-8"
        if answer.format is not None:
            headers.append((b"x-clickhouse-format", answer.format.encode()))
            kind = _CONTENT_TYPES.get(answer.format, kind)
        left = asyncio.ensure_future(_until_gone(receive))
        try:
            async with asyncio.timeout(self._settings.answer_time_max_s):
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [*headers, (b"content-type", kind)]}
                )
                while (piece := await self._in_thread(lambda: next(answer.pieces, None))) is not None:
                    if left.done():
                        raise ClientGone
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            # Nothing more is sent to a client that does not read: even a last word would wait for it.
            log.warning("an answer was not read within its time")
            raise ClientGone from None
        except (QueryError, RuntimeError) as error:
            failure = error if isinstance(error, QueryError) else engine_error(error)
            await self._break_off(failure, tag, send)
        else:
            await send({"type": "http.response.body", "body": b""})
        finally:
            left.cancel()
            await self._in_thread(answer.close)

    async def _break_off(self, error: QueryError, tag: str, send: Send) -> None:
        """An error after the status has left: told in the body between ClickHouse's marks, and the end withheld.

        Without its end the body is no whole answer for any HTTP client, so half a result is never taken for all of it.
        """
        log.warning("a streamed answer broke off", extra={"code": error.code})
        text = error.text(self._engine.version)
        marked = f"\r\n__exception__\r\n{tag}\r\n{text}{len(text.encode())} {tag}\r\n__exception__\r\n"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await send({"type": "http.response.body", "body": marked.encode(), "more_body": True})
        raise ClientGone

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """`work` in a query thread. Waited for even when this request is cancelled: the engine's connection may be
        closed only when no thread is in it."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(send: Send, status: int, body: bytes, kind: bytes, headers: Headers | None = None) -> None:
    sent = [*(headers or []), (b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
