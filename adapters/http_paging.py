"""Pages of a list: `limit` rows from an opaque `cursor` on, and the cursor of what follows."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated

from fastapi import Query

from adapters.http_errors import ApiError

PAGE_ROWS_MAX = 500
PAGE_ROWS = 100

Limit = Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX, description="At most this many rows.")]
PageCursor = Annotated[
    str | None,
    Query(max_length=1_000, description="`next_cursor` of the page before; leave it out for the first page."),
]


def cursor_text(*parts: str) -> str:
    """A cursor that holds `parts`, the sort key of a page's last row."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


def cursor_parts(cursor: str | None, count: int) -> tuple[str, ...] | None:
    """What `cursor_text` was given, None without a cursor. Raises ApiError 400 for anything else."""
    if not cursor:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or len(parts) != count or not all(isinstance(part, str) for part in parts):
        raise ApiError(
            400,
            "invalid_cursor",
            "This is no cursor of this list.",
            field="cursor",
            what_to_do="Use `next_cursor` of the page before, or leave it out.",
        )
    return tuple(parts)
