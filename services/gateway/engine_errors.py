"""An engine's own errors as a customer may see them: its refusals keep their sentence, nothing else does."""

from __future__ import annotations

import re

import msgspec

from services.gateway.answers import Refusal, engine_failed, overloaded

# What no customer sees of an engine's sentence: addresses, paths and files, and what its reader of requests prints.
_INTERNAL = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]{3,}\]|://|localhost|:\d{4,5}\b|(?:/[\w.-]+){2,}|Traceback|\bFile \"", re.I
)
_VALIDATION_DUMP = re.compile(r"validation error|[\"']loc[\"']", re.I)
_MESSAGE_MAX = 1_000


class _EngineError(msgspec.Struct):
    message: str | None = None
    param: str | None = None
    code: int | str | None = None


class _EngineErrorBody(msgspec.Struct):
    """SGLang answers flat (`message` at the top) outside a stream and nested (`error.message`) inside one."""

    message: str | None = None
    param: str | None = None
    error: _EngineError | str | None = None


_engine_error = msgspec.json.Decoder(_EngineErrorBody)


def refusal(status: int, body: bytes) -> Refusal:
    """An engine's own error as a customer may see it: its 4xx keeps status and sentence, nothing else does."""
    if status in (400, 413, 422):
        message, param = _engine_message(body)
        return Refusal(400 if status == 422 else status, message, code="invalid_request", param=param)
    return overloaded() if status in (429, 503) else engine_failed()


def in_a_stream(body: bytes) -> Refusal:
    """The error that an engine sent as an event of a stream; its `code` is the status that it would have answered."""
    try:
        error = _engine_error.decode(body).error
    except msgspec.DecodeError:
        return engine_failed()
    status = error.code if isinstance(error, _EngineError) else None
    return refusal(status if isinstance(status, int) else 500, body)


def _engine_message(body: bytes) -> tuple[str, str | None]:
    fallback = "The model refused this request. Check its parameters."
    try:
        error = _engine_error.decode(body)
    except msgspec.DecodeError:
        return fallback, None
    nested = error.error if isinstance(error.error, _EngineError) else error
    message = nested.message or (error.error if isinstance(error.error, str) else None)
    if not message or _INTERNAL.search(message) or _VALIDATION_DUMP.search(message):
        return fallback, None
    return message[:_MESSAGE_MAX], nested.param
