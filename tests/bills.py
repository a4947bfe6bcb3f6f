"""A bill that is wrong, told apart from whatever else fails: continuous integration never tries such a test again.

A comparison raises `Mismatch`, `bills_agree` does so for two values, and of a test with the mark `bills` every failed
assertion counts. A run names each such test at its end in a line of its own, for pytest's summary cuts reasons off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

DISAGREE = "BILLS DISAGREE"
SHOWN_MAX = 10
"""Differences that an error spells out."""

_NOTED = ("bills", "disagree")
_NAMED = re.compile(rf"^{DISAGREE}: (.+)$", re.MULTILINE)


class Mismatch(AssertionError):
    """The bill is not what the truth says."""


def bills_agree(found: object, due: object) -> None:
    """Raises Mismatch, with some of the differences, unless what is billed is what is due."""
    if found != due:
        differences = list(_differences(found, due))
        more = f"\n  and {len(differences) - SHOWN_MAX} more" if len(differences) > SHOWN_MAX else ""
        raise Mismatch("the bill is not what is due:\n  " + "\n  ".join(differences[:SHOWN_MAX]) + more)


def _differences(found: object, due: object) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(due, dict):
        for key in found.keys() | due.keys():
            if found.get(key) != due.get(key):
                yield f"{key}: billed {found.get(key)}, due {due.get(key)}"
    elif isinstance(found, set) and isinstance(due, set):
        yield from (f"billed, not due: {one}" for one in found - due)
        yield from (f"due, not billed: {one}" for one in due - found)
    else:
        yield f"billed {found}, due {due}"


def note_disagreement(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Note in a test's report that it failed for a bill."""
    if call.excinfo is None:
        return
    error = call.excinfo.value
    if isinstance(error, BaseExceptionGroup):
        found = error.subgroup(Mismatch) is not None
    else:
        found = isinstance(error, Mismatch)
    asserted = call.when == "call" and isinstance(error, AssertionError)
    if found or (asserted and item.get_closest_marker("bills") is not None):
        report.user_properties.append(_NOTED)


def lines_of(reports: Iterable[Any]) -> list[str]:
    """The line of each of these reports, as pytest keeps them, that failed for a bill."""
    return [f"{DISAGREE}: {one.nodeid}" for one in reports if _NOTED in map(tuple, getattr(one, "user_properties", ()))]


def disagreeing(output: str) -> list[str]:
    """The tests that failed for a bill, by a run's output."""
    return _NAMED.findall(output)
