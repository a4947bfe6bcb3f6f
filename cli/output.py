"""How answers are shown: JSON for scripts, tables for people, progress and failures on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_MIN = 120
"""Where output is no terminal, or a narrow one, tables are still wide enough to be read."""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
if out.width < WIDTH_MIN:
    out = Console(highlight=False, soft_wrap=True, width=WIDTH_MIN)

_FRACTION = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+(Z|[+-]\d\d:\d\d)")
_RIGHT = frozenset(
    {"quantity", "amount", "unit price", "replicas", "ready", "price", "offset", "restarts", "memory"}
    | {"requests", "prompt tokens", "completion tokens"}
)


def show_json(answer: Any) -> None:
    """One JSON document on stdout, and nothing else there."""
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], footer: Sequence[Any] | None = None
) -> None:
    """A table whose numbers stand right; an empty one says so."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_footer=bool(footer),
    )
    for position, name in enumerate(columns):
        table.add_column(
            name,
            footer=_text(footer[position]) if footer else "",
            justify="right" if name in _RIGHT else "left",
            overflow="fold",
        )
    count = 0
    for row in rows:
        assert len(row) == len(columns), (columns, row)
        # As Text, so that brackets in what services say are no markup.
        table.add_row(*(Text(_text(cell)) for cell in row))
        count += 1
    if count:
        out.print(table)
    else:
        out.print(f"{title}: none")


def show_fields(title: str, fields: Mapping[str, Any]) -> None:
    """One thing, a line a field."""
    out.print(f"[bold]{title}[/bold]")
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        out.print(f"  {name.ljust(width)}  {_text(value)}", markup=False)


def grouped(number: Any) -> str:
    """12345678 -> 12,345,678; text that is no number stays as it is."""
    try:
        return f"{Decimal(str(number)):,f}"
    except InvalidOperation:
        return str(number)


def money(amount: Any) -> str:
    """An amount with its needless zeros removed, at least two places kept."""
    try:
        text = f"{Decimal(str(amount)):,f}"
    except InvalidOperation:
        return str(amount)
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, list | tuple):
        return ", ".join(map(str, cell))
    text = str(cell)
    # People read instants to the second; --json has them whole.
    instant = _FRACTION.fullmatch(text)
    return text if instant is None else instant[1] + instant[2]
