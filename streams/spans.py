"""The spans of the stream processors: one for each event that a batch brought to its end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from adapters.tracing import Span, TraceContext


class Step(NamedTuple):
    """An event on its way through a batch: its span's place, and what the span will say."""

    context: TraceContext
    name: str
    attributes: dict[str, str | int | bool]


def spans_of(steps: Iterable[Step], began: datetime, ended: datetime) -> list[Span]:
    """A batch's events share its time: it began when they had been fetched and ended when its effect was written."""
    return [Span(step.context, step.name, "consumer", began, ended, step.attributes) for step in steps]
