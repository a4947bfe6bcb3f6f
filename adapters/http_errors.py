"""The one shape in which every control service answers an error: `{"error": {code, message, field, what_to_do}}`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from adapters.api_keys import NotAuthenticated
from adapters.errors import HydraError, Unavailable
from domain.ids import with_keys_masked

logger = logging.getLogger(__name__)

RETRY_AFTER_S = "2"


class ApiError(HydraError):
    """Raise it anywhere below a route. `message` is one sentence; `field` names what was wrong in the request."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, what_to_do: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.what_to_do = what_to_do


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable, for programs.", examples=["not_found"])
    message: str = Field(description="One sentence, for people.", examples=["There is no account u-8105f7322477."])
    field: str | None = Field(None, description="The part of the request that was wrong, where it was one.")
    what_to_do: str | None = Field(None, description="What helps.")


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorBody


_MEANINGS = {
    400: "The request is not valid.",
    401: "No valid API key or operator's token.",
    403: "This caller may not do this.",
    404: "There is no such thing, or it is another account's.",
    409: "It contradicts what is there, or the Idempotency-Key was used for another request.",
    413: "The body is too large.",
    503: "A part of the platform is away; try again after `Retry-After` seconds.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: 400, 401 and 503 besides the given ones."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]}
        for status in sorted({400, 401, 503, *statuses})
    }


def error_answer(
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    what_to_do: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The envelope as a response."""
    # A sentence may name what was asked for, and that may be a key: whoever keeps errors must not keep keys by it.
    told = with_keys_masked(message)
    body = ErrorAnswer(error=ErrorBody(code=code, message=told, field=field, what_to_do=what_to_do))
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=headers)


def install_error_answers(app: FastAPI) -> None:
    """Have every error of `app` answered in the one shape; an unexpected one is answered by `RequestLimits`."""

    def api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_answer(error.status, error.code, str(error), field=error.field, what_to_do=error.what_to_do)

    def not_authenticated(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, NotAuthenticated)
        challenge = {"WWW-Authenticate": "Bearer"}
        return error_answer(401, error.code, str(error), what_to_do=error.what_to_do, headers=challenge)

    def unavailable(request: Request, error: Exception) -> JSONResponse:
        # The cause is for the operator: it may name addresses, tables or statements.
        logger.warning("answered 503", extra={"path": request.url.path[:300], "cause": str(error)})
        return error_answer(
            503,
            "unavailable",
            "A part of the platform that this needs does not answer.",
            what_to_do="Try again in a moment.",
            headers={"Retry-After": RETRY_AFTER_S},
        )

    def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, message, what_to_do = _HTTP.get(error.status_code, ("http_error", str(error.detail), None))
        headers = dict(error.headers) if error.headers else None
        return error_answer(error.status_code, code, message, what_to_do=what_to_do, headers=headers)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(NotAuthenticated, not_authenticated)
    app.add_exception_handler(Unavailable, unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http)


_HTTP = {
    400: ("invalid_request", "The body could not be read.", "Send JSON in UTF-8."),
    404: ("not_found", "There is nothing at this address.", "See /openapi.json for the routes."),
    405: ("method_not_allowed", "This address does not take this method.", "See /openapi.json for the routes."),
    413: ("body_too_large", "The body is too large.", "Send a smaller one."),
}


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_answer(400, "invalid_json", "The body is no valid JSON.", what_to_do="Send one JSON object.")
    place = [str(part) for part in first["loc"]]
    # The first part says where the field was (body, query, path, header); a value is never quoted back.
    field = ".".join(place[1:]) or place[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    return error_answer(400, "invalid_request", f"{field}: {message}.", field=field, what_to_do="See /openapi.json.")
