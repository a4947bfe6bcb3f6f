"""What the contract's check calls a break."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.compatibility import breaks
from schemas.generate import event_schema


def usage() -> dict[str, Any]:
    return event_schema("hydra.usage.v1")


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"]["TokensUsed"]["properties"]
    return found


def test_a_schema_does_not_break_itself() -> None:
    assert breaks(usage(), usage()) == []


def test_a_new_optional_field_and_a_new_value_break_nothing() -> None:
    new = copy.deepcopy(usage())
    properties(new)["later"] = {"type": "string", "default": None}
    properties(new)["outcome"]["enum"].append("later")
    assert breaks(usage(), new) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda new: properties(new).pop("status"), "data.status: is gone"),
        (lambda new: new["$defs"]["TokensUsed"]["required"].append("model"), "data.model: is now required"),
        (lambda new: new["$defs"]["TokensUsed"]["required"].remove("status"), "data.status: is no longer required"),
        (lambda new: properties(new)["status"].update(type="string"), "data.status: type was 'integer'"),
        (lambda new: properties(new)["outcome"]["enum"].remove("refused"), "values refused are gone"),
        (lambda new: new["$defs"]["Attempt"]["properties"].pop("epoch"), "epoch: is gone"),
    ],
)
def test_what_readers_would_trip_over_is_named(change: Any, named: str) -> None:
    new = copy.deepcopy(usage())
    change(new)
    assert any(named in found for found in breaks(usage(), new)), breaks(usage(), new)
