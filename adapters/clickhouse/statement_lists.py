"""Lists of a query, written into its statement."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PARAMETER = re.compile(r"\{(\w+):Array\((?:String|UInt32)\)\}")


def with_lists(sql: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The statement with its array parameters in place, and the parameters that are left.

    As parameters long lists travel in a form, which not every server that speaks this protocol reads; and the client
    escapes them character by character, which took more CPU than all inserts of a batch.
    """
    rest = dict(parameters)

    def written(found: re.Match[str]) -> str:
        rest.pop(found[1], None)
        return array_literal(parameters[found[1]])

    return _PARAMETER.sub(written, sql), rest


def array_literal(values: Sequence[str] | Sequence[int]) -> str:
    """The values as ClickHouse reads them: texts quoted, so that nothing in one can end it."""
    return f"[{','.join(quoted(value) if isinstance(value, str) else str(int(value)) for value in values)}]"


def quoted(text: str) -> str:
    """The text as a literal."""
    if "\\" in text or "'" in text:
        text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
