"""Answers made by the gateway itself: OpenAI's error envelope, and HTTP heads as bytes."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from domain.ids import with_keys_masked

CODES: dict[int, str] = {
    400: "invalid_request",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    431: "request_headers_too_large",
    502: "upstream_error",
    503: "service_unavailable",
    504: "upstream_timeout",
}


class Refusal(Exception):
    """A request that is not served: OpenAI's `type`, `code` and `param`, and a sentence that says what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        type: str = "invalid_request_error",
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        # A model's name is said back, and what a client takes for one may be its key.
        self.message = with_keys_masked(message)
        self.code = code or CODES.get(status, "error")
        self.type = type
        self.param = param
        self.retry_after_s = retry_after_s

    def envelope(self) -> bytes:
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )


def no_key() -> Refusal:
    return Refusal(
        401,
        "No API key was sent. Send the header `Authorization: Bearer <API key>`.",
        code="missing_api_key",
        type="authentication_error",
    )


def wrong_key() -> Refusal:
    return Refusal(
        401,
        "The API key is not known here. Check that it was copied whole, or create a new one.",
        code="invalid_api_key",
        type="authentication_error",
    )


def revoked_key() -> Refusal:
    return Refusal(
        401,
        "This API key was disabled or deleted. Create a new one and use that.",
        code="revoked_api_key",
        type="authentication_error",
    )


def account_inactive() -> Refusal:
    return Refusal(
        403,
        "This account is suspended or closed. Contact the operator of the platform.",
        code="account_inactive",
        type="permission_error",
    )


def missing_scope(scope: str) -> Refusal:
    return Refusal(
        403,
        f"This API key lacks the scope `{scope}`. Use a key that was created with it.",
        code="missing_scope",
        type="permission_error",
    )


def unknown_model(model: str) -> Refusal:
    """The same for a model that does not exist, one of another account, and one that another endpoint serves."""
    return Refusal(
        404,
        f"The model `{model[:200]}` does not exist or you do not have access to it. List yours with GET /v1/models.",
        code="model_not_found",
        param="model",
    )


def spend_limit_reached() -> Refusal:
    return Refusal(
        402,
        "This account has reached its spend limit. Raise the limit or wait for the operator to do so.",
        code="insufficient_quota",
        type="insufficient_quota",
    )


def still_deploying() -> Refusal:
    return Refusal(
        503,
        "The service is still being deployed. Try again when its status is `running`.",
        code="service_deploying",
        type="server_error",
        retry_after_s=10,
    )


def stopped() -> Refusal:
    return Refusal(
        503,
        "The service is stopped. Start it, then try again.",
        code="service_stopped",
        type="server_error",
        retry_after_s=30,
    )


def no_instance() -> Refusal:
    return Refusal(
        503,
        "No instance of this model can take requests now. Try again in a few seconds.",
        code="no_instance_available",
        type="server_error",
        retry_after_s=5,
    )


def overloaded(code: str = "overloaded") -> Refusal:
    return Refusal(
        503,
        "The platform cannot take more requests at the moment. Try again in a few seconds.",
        code=code,
        type="server_error",
        retry_after_s=2,
    )


def upstream_lost() -> Refusal:
    return Refusal(
        502,
        "The instance that worked on this request was lost. Nothing is charged; send the request again.",
        code="upstream_error",
        type="server_error",
    )


def gateway_stopped() -> Refusal:
    return Refusal(
        503,
        "The platform stopped the part that worked on this request. Nothing is charged; send the request again.",
        code="gateway_stopped",
        type="server_error",
        retry_after_s=2,
    )


def upstream_timeout() -> Refusal:
    return Refusal(
        504,
        "The model did not answer in time. Nothing is charged; send the request again, or ask for fewer tokens.",
        code="upstream_timeout",
        type="server_error",
    )


def too_large(limit: int) -> Refusal:
    return Refusal(
        413, f"The request's body is larger than {limit} bytes. Send a smaller one.", code="request_too_large"
    )


def too_many_values(limit: int) -> Refusal:
    return Refusal(
        413,
        f"The request's body has more than {limit} of the characters `[` and `{{`. Send fewer lists and objects.",
        code="request_too_large",
    )


def read_timeout() -> Refusal:
    return Refusal(408, "The request did not arrive in time. Send it again.", code="request_timeout")


def bad_http(detail: str = "The request is not valid HTTP/1.1.") -> Refusal:
    return Refusal(400, detail, code="bad_http")


def event_too_large(limit: int) -> Refusal:
    """In a stream, for a request that asked for what made its event so large."""
    return Refusal(
        413,
        f"One event of this stream is larger than {limit} bytes, so it ends here; the tokens up to now are charged. "
        "Ask for fewer `logprobs` or `top_logprobs`, leave out `echo`, or read the stream faster.",
        code="event_too_large",
    )


def engine_failed() -> Refusal:
    return Refusal(
        502,
        "The model failed on this request. Nothing is charged; send it again, and change it if that repeats.",
        code="upstream_error",
        type="server_error",
    )


def head(
    status: int,
    length: int | None,
    *,
    content_type: str = "application/json",
    keep_alive: bool = True,
    extra: str = "",
) -> bytes:
    """An HTTP/1.1 head; `length` None means that the body is chunked (or ends with the connection)."""
    framing = f"content-length: {length}\r\n" if length is not None else ""
    connection = "" if keep_alive else "connection: close\r\n"
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {content_type}\r\n"
        f"{framing}{connection}{extra}\r\n"
    ).encode("latin-1")


_WHOLE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n"


def whole_answer(body: bytes, request_id: str, *, keep_alive: bool) -> bytes:
    """Head and body of an engine's answer. What most requests get, so its head is not put together anew."""
    connection = b"" if keep_alive else b"connection: close\r\n"
    return _WHOLE_HEAD % (len(body), request_id.encode(), connection) + body


def refusal_answer(refusal: Refusal, *, keep_alive: bool, request_id: str | None = None) -> bytes:
    """Head and body of a refusal."""
    body = refusal.envelope()
    extra = f"x-request-id: {request_id}\r\n" if request_id else ""
    if refusal.retry_after_s is not None:
        extra += f"retry-after: {refusal.retry_after_s}\r\n"
    if refusal.status == 401:
        extra += "www-authenticate: Bearer\r\n"
    return head(refusal.status, len(body), keep_alive=keep_alive, extra=extra) + body


def stream_error(refusal: Refusal) -> bytes:
    """A server-sent event: how a stream that has begun says that it failed."""
    return b"data: " + refusal.envelope() + b"\n\n"
