"""What the gateway answers by itself: the list of models, health and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from adapters.clock_drift import DRIFT
from services.gateway import answers
from services.gateway.admission import callable_now, can_call
from services.gateway.answers import Refusal
from services.gateway.models import Caller, Request, Service

if TYPE_CHECKING:
    from services.gateway.server import Gateway

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def _model(service: Service) -> dict[str, object]:
    state = service.state
    return {
        "id": state.access_path,
        "object": "model",
        "created": int(state.created.timestamp()),
        "owned_by": state.account,
    }


def _listing_caller(gateway: Gateway, request: Request) -> Caller:
    caller = gateway.caller_of(request)
    if not gateway.state_is_fresh():
        raise answers.overloaded("state_too_old")
    if caller.refused is not None:
        raise caller.refused
    if not caller.may_infer:
        raise answers.missing_scope("inference")
    return caller


def models(gateway: Gateway, request: Request) -> bytes:
    caller = _listing_caller(gateway, request)
    services = callable_now(caller, gateway.hosts.of(request.host), gateway.routes.services)
    return _json(200, request, {"object": "list", "data": [_model(service) for service in services]})


def model(gateway: Gateway, request: Request, quoted_id: str) -> bytes:
    caller = _listing_caller(gateway, request)
    wanted = unquote(quoted_id)
    service = gateway.routes.services.get(wanted)
    if service is None or not can_call(caller, gateway.hosts.of(request.host), service):
        raise answers.unknown_model(wanted)
    return _json(200, request, _model(service))


def live(gateway: Gateway, request: Request) -> bytes:
    return _json(200, request, {"status": "ok", "reason": None})


def ready(gateway: Gateway, request: Request) -> bytes:
    """200 while requests are served, also `degraded`; 503 with the reason while they are not."""
    status, reason = gateway.readiness()
    body = {"status": status, "reason": reason} | DRIFT.warning()
    return _json(200 if status in ("ok", "degraded") else 503, request, body)


def metrics(gateway: Gateway, request: Request) -> bytes:
    return _answer(200, request, gateway.metrics.exposition(gateway), TEXT)


PLAIN: dict[str, Callable[[Gateway, Request], bytes]] = {
    "/v1/models": models,
    "/models": models,
    "/v1/models/": models,
    "/models/": models,
    "/health/live": live,
    "/health/ready": ready,
    "/metrics": metrics,
}
MODEL_PREFIXES = ("/v1/models/", "/models/")
INFERENCE_PATHS = frozenset({"/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions"})


def answer(gateway: Gateway, request: Request, path: str) -> bytes:
    """The whole answer to a request that is none of inference."""
    try:
        return _routed(gateway, request, path)
    except Refusal as refusal:
        whole = answers.refusal_answer(refusal, keep_alive=request.keep_alive)
        return whole[: whole.index(b"\r\n\r\n") + 4] if request.method == b"HEAD" else whole


def _routed(gateway: Gateway, request: Request, path: str) -> bytes:
    if request.problem is not None:
        raise request.problem
    plain = PLAIN.get(path)
    prefix = next((prefix for prefix in MODEL_PREFIXES if path.startswith(prefix)), None)
    if plain is None and prefix is None and path not in INFERENCE_PATHS:
        raise Refusal(404, "There is no such path here. See POST /v1/chat/completions.", code="unknown_path")
    allowed = "POST, OPTIONS" if path in INFERENCE_PATHS else "GET, HEAD, OPTIONS"
    if request.method == b"OPTIONS":
        return answers.head(204, None, keep_alive=request.keep_alive, extra=f"allow: {allowed}\r\n")
    if path in INFERENCE_PATHS or request.method not in (b"GET", b"HEAD"):
        raise Refusal(405, f"This path takes {allowed.split(',')[0]} only.")
    if plain is not None:
        return plain(gateway, request)
    assert prefix is not None
    return model(gateway, request, path[len(prefix) :])


def _json(status: int, request: Request, value: object) -> bytes:
    return _answer(status, request, msgspec.json.encode(value), "application/json")


def _answer(status: int, request: Request, body: bytes, content_type: str) -> bytes:
    head = answers.head(status, len(body), content_type=content_type, keep_alive=request.keep_alive)
    return head if request.method == b"HEAD" else head + body
