"""What nobody of ours would send over HTTP: bytes that are no request, and requests with any one field spoilt."""

from __future__ import annotations

import contextlib
import copy
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from domain.engine_fields import CHAT_FIELDS, COMPLETION_FIELDS

ANSWER_WITHIN_S = 30.0
READ_BYTES = 65_536
WRONG: tuple[Any, ...] = (
    None,
    "",
    "no such word",
    "\x00",
    "\ud800",  # half of a surrogate pair: no UTF-8 can hold it
    "x" * 20_000,
    0,
    -1,
    2**63,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    True,
    [],
    {},
    [None],
    {"a": [{}]},
)
WRONG_TEXTS = ("", "%00", "%ff%fe", "..%2f..%2fetc%2fpasswd", "-1", "1e999", "NaN", "x" * 4_000, "%F0%9F%98%80", "';--")


def no_requests(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no HTTP request, or one that no client of ours sends."""
    yield "drawn bytes", chance.randbytes(4_096)
    yield "nothing but line ends", b"\r\n" * 5_000
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200)
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 40
    yield "a version that none is", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"
    yield "half a head", b"GET /health/live HTTP/1.1\r\nHost: a"
    yield "no path", b"GET\r\n\r\n"
    yield "a method that none is", b"NO\x01SUCH / HTTP/1.1\r\nHost: a\r\n\r\n"
    for name, line in (
        ("a long header", b"X-Long: " + b"x" * 200_000),
        ("many headers", b"\r\n".join(b"X-%d: y" % number for number in range(5_000))),
        ("a header with a zero", b"X-Zero: a\x00b"),
        ("a header that is no text", b"X-Bytes: \xff\xfe\x80"),
        ("a key that is no text", b"Authorization: Bearer \xff\xfe\x80"),
        ("a header without a name", b": x"),
        ("a negative length", b"Content-Length: -5"),
        ("a length that is no number", b"Content-Length: many"),
        ("a huge length", b"Content-Length: 99999999999999999999"),
        ("two lengths", b"Content-Length: 2\r\nContent-Length: 3"),
        ("a length and chunks", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
        ("a transfer that none is", b"Transfer-Encoding: banana"),
        ("an upgrade", b"Connection: Upgrade\r\nUpgrade: websocket"),
    ):
        yield name, b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n{}"
    yield (
        "chunks that are none",
        b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnothing\r\n0\r\n\r\n",
    )
    yield "a long path", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "a path of bytes", b"GET /%ff%00/\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "a path that climbs", b"GET /../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "a host that none is", b"GET /health/live HTTP/1.1\r\nHost: \xff\xff[:::\r\n\r\n"


def answer_to(port: int, sent: bytes) -> bytes:
    """What comes back, until the other side has no more to say or closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S) as connection:
        answer = b""
        # It may close while we still talk, which is an answer too: what it said before is read all the same.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(READ_BYTES):
                answer += piece
        except ConnectionError:
            pass
        return answer


@dataclass(frozen=True)
class Call:
    """One request of a route. `what` says what is wrong with it; `body` None: it has none."""

    method: str
    path: str
    what: str
    body: Any = None


class Routes:
    """The routes of a service as its own OpenAPI document has them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def calls(self) -> Iterator[Call]:
        """Every route with every one of its parameters and fields spoilt, one at a time."""
        for path, methods in self._document["paths"].items():
            for method, route in methods.items():
                yield from self._of_route(path, method.upper(), route)

    def _of_route(self, path: str, method: str, route: dict[str, Any]) -> Iterator[Call]:
        parameters = [self._resolved(one) for one in route.get("parameters", ())]
        of_path = {one["name"]: "absent" for one in parameters if one["in"] == "path"}
        content = self._resolved(route.get("requestBody", {})).get("content", {})
        body = self._example(content["application/json"]["schema"]) if content else None
        for name in of_path:
            for wrong in WRONG_TEXTS[1:]:
                yield Call(method, path.format(**(of_path | {name: wrong})), f"{name} is {wrong[:20]}", body)
        plain = path.format(**of_path)
        for one in parameters:
            if one["in"] == "query":
                for wrong in WRONG_TEXTS:
                    yield Call(method, f"{plain}?{one['name']}={wrong}", f"?{one['name']} is {wrong[:20]}", body)
        if content:
            yield from (Call(method, plain, what, wrong) for what, wrong in spoilt_bodies(body))

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            found: Any = self._document
            for name in schema["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            schema = found
        return schema

    def _example(self, schema: dict[str, Any]) -> Any:
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if schema.get(name) is not None:
                return schema[name]
        for name in ("examples", "enum"):
            if schema.get(name):
                return schema[name][0]
        for name in ("anyOf", "oneOf", "allOf"):
            if schema.get(name):
                return self._example(schema[name][0])
        if "properties" in schema:
            return {name: self._example(inner) for name, inner in schema["properties"].items()}
        if schema.get("type") == "array":
            return [self._example(schema["items"])] if "items" in schema else []
        return {"integer": 1, "number": 1.5, "boolean": True, "object": {}}.get(schema.get("type", ""), "text")


def spoilt_bodies(body: Any) -> Iterator[tuple[str, Any]]:
    """Bodies of another kind, and `body` with one field wrong, missing or too many."""
    for wrong in WRONG:
        yield f"the body is {str(wrong)[:20]!r}", wrong
    if not isinstance(body, dict):
        return
    yield "a field too many", body | {"no_such_field": 1}
    for name in body:
        yield f"{name} is missing", {other: value for other, value in body.items() if other != name}
        for wrong in WRONG:
            yield f"{name} is {str(wrong)[:20]!r}", copy.deepcopy(body) | {name: wrong}


def completion_bodies(model: str) -> Iterator[tuple[str, Any]]:
    """Completions with one field of the engine's spoilt."""
    body = {"model": model, "prompt": "one two", "max_tokens": 2}
    yield from spoilt_bodies(body)
    for name in sorted(COMPLETION_FIELDS):
        for wrong in WRONG:
            yield f"{name} is {str(wrong)[:20]!r}", body | {name: wrong}
    for wrong in WRONG:
        yield f"a prompt's part is {str(wrong)[:20]!r}", body | {"prompt": ["one", wrong]}


def chat_bodies(model: str) -> Iterator[tuple[str, Any]]:
    """Chats with one field of the engine's spoilt."""
    body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "max_tokens": 2}
    yield from spoilt_bodies(body)
    for name in sorted(CHAT_FIELDS):
        for wrong in WRONG:
            yield f"{name} is {str(wrong)[:20]!r}", body | {name: wrong}
    for wrong in WRONG:
        yield f"a message is {str(wrong)[:20]!r}", body | {"messages": [wrong]}
        yield f"a content is {str(wrong)[:20]!r}", body | {"messages": [{"role": "user", "content": wrong}]}
        yield f"a role is {str(wrong)[:20]!r}", body | {"messages": [{"role": wrong, "content": "a"}]}
