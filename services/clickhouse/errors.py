"""Errors as ClickHouse's HTTP interface tells them: a code, a sentence, a status."""

from __future__ import annotations

import re

_CODE = re.compile(r"Code: (\d+)")
_LENGTH_MAX = 8_000

# As ClickHouse's own server maps its codes; every other code is 500.
_STATUS_OF_CODE = {
    27: 400,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    36: 400,  # BAD_ARGUMENTS
    46: 404,  # UNKNOWN_FUNCTION
    47: 404,  # UNKNOWN_IDENTIFIER
    53: 400,  # TYPE_MISMATCH
    60: 404,  # UNKNOWN_TABLE
    62: 400,  # SYNTAX_ERROR
    81: 404,  # UNKNOWN_DATABASE
    115: 404,  # UNKNOWN_SETTING
    159: 408,  # TIMEOUT_EXCEEDED
    164: 403,  # READONLY
    202: 503,  # TOO_MANY_SIMULTANEOUS_QUERIES
    209: 408,  # SOCKET_TIMEOUT
    456: 400,  # UNKNOWN_QUERY_PARAMETER
    457: 400,  # BAD_QUERY_PARAMETER
    497: 403,  # ACCESS_DENIED
    516: 403,  # AUTHENTICATION_FAILED
}

READONLY = 164
QUOTA_EXCEEDED = 201
TOO_MANY_QUERIES = 202
NOT_ENOUGH_SPACE = 243
SESSION_LOCKED = 373


class QueryError(Exception):
    """Answered to the client as ClickHouse would: `Code: N. DB::Exception: sentence (NAME)`."""

    def __init__(self, code: int, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.status = status or _STATUS_OF_CODE.get(code, 500)

    def text(self, version: str) -> str:
        return f"Code: {self.code}. DB::Exception: {self.sentence} (version {version} (chdb))\n"


def engine_error(error: Exception) -> QueryError:
    """What the engine raised, without the wrapper's words before its code."""
    text = str(error)[:_LENGTH_MAX].strip()
    found = _CODE.search(text)
    if found is None:
        return QueryError(1001, f"{text} (STD_EXCEPTION)")
    sentence = text[found.end() :].removeprefix(".").strip().removeprefix("DB::Exception:").strip()
    return QueryError(int(found.group(1)), sentence)


def read_only(sentence: str) -> QueryError:
    return QueryError(READONLY, f"{sentence} (READONLY)")
