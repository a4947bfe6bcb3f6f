"""The table of docs/metrics.md, and the same of what processes show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

LIBRARY = ("process_", "python_")
"""What prometheus-client shows by itself is documented there."""
BUCKET = "le"


@dataclass(frozen=True)
class Row:
    """One metric. Its labels are those that any process has shown, `le` aside."""

    kind: str
    labels: frozenset[str]
    processes: frozenset[str]
    meaning: str


def shown(texts: Mapping[str, str]) -> dict[str, Row]:
    """Every metric of ours in what processes showed, by the name of its series (a histogram's without its suffix)."""
    rows: dict[str, Row] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text):
            if family.name.startswith(LIBRARY):
                continue
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = frozenset(label for sample in family.samples for label in sample.labels if label != BUCKET)
            known = rows.get(name, Row(family.type, frozenset(), frozenset(), family.documentation))
            rows[name] = Row(family.type, known.labels | labels, known.processes | {process}, known.meaning)
    return rows


def documented(page: Path) -> dict[str, Row]:
    """The rows of the page's tables: metric, kind, labels, processes, meaning."""
    rows: dict[str, Row] = {}
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 5:
            continue
        name, kind, labels, processes, meaning = cells
        assert name not in rows, f"{name} stands twice"
        rows[name.strip("`")] = Row(kind, _words(labels), _words(processes), meaning)
    return rows


def _words(cell: str) -> frozenset[str]:
    return frozenset(word.strip(" `") for word in cell.split(",") if word.strip())


def line(name: str, row: Row) -> str:
    """A row as the page has it."""
    labels = ", ".join(f"`{label}`" for label in sorted(row.labels))
    return f"| `{name}` | {row.kind} | {labels} | {', '.join(sorted(row.processes))} | {row.meaning} |"
