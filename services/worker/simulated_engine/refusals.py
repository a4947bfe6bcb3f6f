"""SGLang's errors, flat as it sends them."""

from __future__ import annotations

import json


class Refused(Exception):
    """A request that the engine does not run; carries the answer's status and flat body."""

    def __init__(self, message: str, kind: str = "BadRequestError", status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message

    def body(self) -> bytes:
        """The body of an answer that consists of the error alone."""
        return json.dumps(self._fields(), separators=(",", ":")).encode()

    def chunk(self) -> bytes:
        """The same inside a stream that has already begun."""
        return b"data: " + json.dumps({"error": self._fields()}).encode() + b"\n\n"

    def _fields(self) -> dict[str, object]:
        return {"object": "error", "message": self.message, "type": self.kind, "param": None, "code": self.status}


def wrong_type(where: tuple[str | int, ...], sentence: str) -> Refused:
    """A field that does not validate: SGLang calls that a `Bad Request`."""
    return Refused(f"1 validation error:\n  {{'loc': {('body', *where)}, 'msg': '{sentence}'}}", "Bad Request")
