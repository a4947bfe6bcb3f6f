"""Pages of a list: `limit` rows from an opaque `cursor` on, and the cursor of what follows."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query

from adapters.http_errors import ApiError

PAGE_ROWS_MAX = 500
PAGE_ROWS = 100
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

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
    except (binascii.Error, ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or len(parts) != count or not all(isinstance(part, str) for part in parts):
        raise _no_cursor()
    return tuple(parts)


def cursor_instant(text: str) -> datetime:
    """An instant that a cursor holds, in UTC. Raises ApiError 400 for what no list of ours can have put there."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _no_cursor() from None
    if instant.tzinfo is None or not is_plausible(instant):
        raise _no_cursor()
    return instant.astimezone(UTC)


def is_plausible(instant: datetime) -> bool:
    """Whether an instant with its offset is one that databases and calendars can reckon with, both sides of it too."""
    return EARLIEST <= instant < LATEST


def _no_cursor() -> ApiError:
    return ApiError(
        400,
        "invalid_cursor",
        "This is no cursor of this list.",
        field="cursor",
        what_to_do="Use `next_cursor` of the page before, or leave it out.",
    )
