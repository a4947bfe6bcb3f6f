"""Which changes of a JSON Schema keep every message readable, old ones by new readers and new ones by old readers."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema) -> list[str]:
    """What `new` breaks, one sentence each; empty where every old message stays readable and means the same.

    A field may be added if it is not required, and a new value may be added to an enumeration (readers are upgraded
    first; one that does not know it parks the message). Anything else needs a new version of the event.
    """
    return _compare(old, new, old.get("$defs", {}), new.get("$defs", {}), "", set())


def _resolve(schema: Schema, defs: Schema) -> Schema:
    reference = schema.get("$ref")
    return schema if reference is None else defs[reference.rsplit("/", 1)[1]]


def _compare(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str, seen: set[str]) -> list[str]:
    if reference := old.get("$ref"):
        if reference in seen:
            return []
        seen = seen | {reference}
    old, new = _resolve(old, old_defs), _resolve(new, new_defs)
    where = path or "the event"
    found: list[str] = []
    for word in ("type", "format", "const", "contentEncoding", "pattern"):
        if old.get(word) != new.get(word):
            found.append(f"{where}: {word} was {old.get(word)!r}, is {new.get(word)!r}")
    allowed: list[Any] = old.get("enum") or []
    if gone := {str(value) for value in allowed} - {str(value) for value in new.get("enum") or allowed}:
        found.append(f"{where}: values {', '.join(sorted(gone))} are gone")
    if "enum" in new and "enum" not in old:
        found.append(f"{where}: is now limited to some values")
    found += _properties(old, new, old_defs, new_defs, path, seen)
    for word in ("items", "additionalProperties"):
        if isinstance(old.get(word), dict) and isinstance(new.get(word), dict):
            found += _compare(old[word], new[word], old_defs, new_defs, f"{path}[]", seen)
        elif isinstance(old.get(word), dict) != isinstance(new.get(word), dict):
            found.append(f"{where}: {word} changed")
    old_any, new_any = old.get("anyOf", []), new.get("anyOf", [])
    if len(old_any) != len(new_any):
        found.append(f"{where}: had {len(old_any)} alternatives, has {len(new_any)}")
    for before, after in zip(old_any, new_any, strict=False):
        found += _compare(before, after, old_defs, new_defs, path, seen)
    return found


def _properties(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str, seen: set[str]) -> list[str]:
    found: list[str] = []
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, schema in before.items():
        here = f"{path}.{name}" if path else name
        if name not in after:
            found.append(f"{here}: is gone")
        else:
            found += _compare(schema, after[name], old_defs, new_defs, here, seen)
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        here = f"{path}.{name}" if path else name
        found.append(f"{here}: is now required; older messages lack it")
    for name in sorted(set(old.get("required", [])) - set(new.get("required", []))):
        here = f"{path}.{name}" if path else name
        found.append(f"{here}: is no longer required; older readers need it")
    return found
