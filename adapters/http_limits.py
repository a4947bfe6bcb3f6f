"""Around every request of a control service: its id, the bound on its body, its access log line and its metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.http_errors import error_answer

logger = logging.getLogger("hydra.access")

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_QUIET = ("/health/", "/metrics")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class RequestLimits:
    """ASGI middleware. The query string and headers are not logged: they may hold what must not be in a log.

    The path is, and a key that stands in it is masked like in every line (telemetry.py).
    """

    def __init__(self, app: ASGIApp, *, body_bytes_max: int, registry: CollectorRegistry) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._count = Counter("hydra_http_requests", "Requests answered", ["method", "status"], registry=registry)
        self._seconds = Histogram("hydra_http_request_seconds", "From headers to answer", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id, began, status = f"req-{secrets.token_hex(16)}", time.monotonic(), 500
        started = False

        async def observed(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            declared = headers.get("content-length", "0")
            if not declared.isdigit() or int(declared) > self._body_bytes_max:
                too_large = error_answer(
                    413,
                    "body_too_large",
                    f"The body may have at most {self._body_bytes_max} bytes.",
                    what_to_do="Send a smaller one.",
                    headers={"connection": "close"},
                )
                await too_large(scope, receive, observed)
            else:
                await self._app(scope, self._bounded(receive), observed)
        except Exception:
            logger.exception("request failed", extra={"request_id": request_id, "path": scope["path"][:300]})
            if started:
                raise  # the server closes the connection, which is how a cut answer is told
            await error_answer(
                500,
                "internal_error",
                "This is an error of the platform's own.",
                what_to_do=f"Report it with the request id {request_id}.",
            )(scope, receive, observed)
        finally:
            self._note(scope, headers, request_id, status, time.monotonic() - began)

    def _bounded(self, receive: Receive) -> Receive:
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes_max:
                raise HTTPException(413)
            return message

        return bounded

    def _note(self, scope: Scope, headers: Headers, request_id: str, status: int, seconds: float) -> None:
        # A client may write any word as its method, and a label must be bounded.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._count.labels(method, str(status)).inc()
        self._seconds.observe(seconds)
        if scope["path"].startswith(_QUIET):
            return
        client_id = headers.get("x-request-id", "")
        caller = scope.get("state", {}).get("caller")
        logger.info(
            "request",
            extra={
                "method": scope["method"],
                "path": scope["path"][:300],
                "status": status,
                "milliseconds": round(seconds * 1000, 1),
                "request_id": request_id,
                "client_request_id": client_id if _CLIENT_ID.fullmatch(client_id) else None,
                "account": caller.account if caller else None,
                "key_id": caller.key_id if caller else None,
            },
        )
