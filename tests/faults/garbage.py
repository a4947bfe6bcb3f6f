"""What nobody of ours would send: a real message with any one of its fields spoilt, and bytes that are no message.

Whether a spoilt message must be refused is not asked of the code under test: it breaks the published JSON Schema, or it
holds what no event can mean, such as a number that is none or a year that no instance ran in.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "contract" / "schemas" / "golden"
LARGE_BYTES = 900_000
DEEP = 50_000

_WRONG: tuple[Any, ...] = (None, "", "no-such-word", 7, -1, 2**53 + 1, 2**64, 1.5, True, [], {}, [[]], {"a": {"b": 1}})
_WRONG_INSTANTS = ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2026-13-01T00:00:00Z")
_WRONG_DECIMALS = ("NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1E-400", "1" * 60, "0.0000000000001", "")

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Garbage:
    """`what` was done to the message, for people."""

    what: str
    value: bytes | None


def bytes_of_nothing() -> Iterator[Garbage]:
    """What is no event at all."""
    yield Garbage("a tombstone", None)
    for what, value in (
        ("nothing", b""),
        ("one brace", b"{"),
        ("text", b'"text"'),
        ("a list", b"[]"),
        ("an empty object", b"{}"),
        ("null", b"null"),
        ("bytes that are no UTF-8", b"\xff\xfe\x00\x01"),
        ("UTF-8 that breaks off within a text", b'{"id": "\xc3"}'),
        ("a list without an end", b"[" * DEEP),
        ("an object without an end", b'{"data":' * DEEP),
        ("a large text", json.dumps("x" * LARGE_BYTES).encode()),
    ):
        yield Garbage(what, value)


def spoilt(message: bytes, chance: random.Random, count: int | None) -> list[Garbage]:
    """`message` with one field wrong, missing or of another kind: only what must be refused. At most `count`, drawn."""
    found = list(_spoilt(json.loads(message)))
    return found if count is None or count >= len(found) else chance.sample(found, count)


def _spoilt(event: dict[str, Any]) -> Iterator[Garbage]:
    schema = json.loads((ROOT / "schemas" / "generated" / f"{event['type']}.json").read_text())
    broken = jsonschema.Draft202012Validator(schema)
    for path in _paths(event):
        name = ".".join(map(str, path))
        for what, changed in _changes(event, path):
            if what.startswith("!") or not broken.is_valid(changed):
                yield Garbage(f"{name} {what}", json.dumps(changed).encode())
    large = copy.deepcopy(event)
    large["data"] = {"filler": "x" * LARGE_BYTES}
    yield Garbage("data of another kind, and large", json.dumps(large).encode())


def _changes(event: dict[str, Any], path: Path_) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to do to one field; `!` before what no event can mean, whatever its schema says."""
    now = _at(event, path)
    if isinstance(path[-1], str):
        without = copy.deepcopy(event)
        del _at(without, path[:-1])[path[-1]]
        yield "is missing", without
    for wrong in _WRONG:
        # A decimal written as a number is read exactly all the same.
        if type(wrong) is not type(now) and not (_is_decimal(now) and type(wrong) in (int, float)):
            yield f"is {json.dumps(wrong)}", _with(event, path, wrong)
    if path[0] != "data" or not isinstance(now, str):
        return
    yield "is a word that none is", _with(event, path, "no-such-word")
    if now.endswith("Z") and now[:2] == "20":
        for instant in _WRONG_INSTANTS:
            yield f"! is {instant}", _with(event, path, instant)
        yield "! has no time zone", _with(event, path, now[:-1])
    elif _is_decimal(now):
        for number in _WRONG_DECIMALS:
            yield f"! is {number[:12]!r}", _with(event, path, number)


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 30 and value.replace(".", "", 1).isdigit()


def _paths(value: Any, before: Path_ = ()) -> Iterator[Path_]:
    """Every field, those of objects and lists inside it too."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield (*before, name)
        yield from _paths(inner, (*before, name))


def _at(value: Any, path: Path_) -> Any:
    for name in path:
        value = value[name]
    return value


def _with(event: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(event)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def golden(event_type: str) -> bytes:
    """The message of this type that is kept in the repository."""
    return (GOLDEN / f"{event_type}.json").read_bytes()
