"""The same answers as CSV, for whoever sends `Accept: text/csv`: one line a row, the rest in headers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

# Also as a spreadsheet of Chinese or Japanese reads them, and behind a line break that it drops.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def wants_csv(request: Request) -> bool:
    """Whether CSV was asked for, before JSON."""
    for part in request.headers.get("accept", "").split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in ("application/json", "*/*", "application/*"):
            return False
        if kind == "text/csv":
            return True
    return False


def csv_answer(
    rows: Sequence[BaseModel | Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_of: datetime | None,
    next_cursor: str | None = None,
) -> Response:
    """RFC 4180 with a header line. `X-As-Of` and `X-Next-Cursor` carry what the JSON has beside the rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="")
    writer.writeheader()
    for row in rows:
        values = row.model_dump() if isinstance(row, BaseModel) else row
        writer.writerow({name: _cell(value) for name, value in values.items()})
    headers = {"X-As-Of": _cell(as_of), "Vary": "Accept"}
    if next_cursor:
        headers["X-Next-Cursor"] = next_cursor
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case list():
            return " ".join(f"{entry['amount']} {entry['currency']}" for entry in value)
        case _:
            # A cell that a spreadsheet would run as a formula is shown as text.
            text = str(value)
            return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
