"""The rules that the long run loads are the shipped ones in all but how long things take."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.shortened_rules import SHORTER_BY, shortened

WINDOW = re.compile(r"\[(\d+)([smh])(?::\d+s)?\]|(?<=process_start_time_seconds < )(\d+)")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@pytest.fixture
def shipped(project_root: Path) -> str:
    return (project_root / "config" / "prometheus" / "alerts.yml").read_text()


def alerts(text: str) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def seconds(count: str, unit: str) -> float:
    return timedelta(**{UNITS[unit]: int(count)}).total_seconds()


def windows_s(expression: str) -> list[float]:
    return [seconds(count, unit) if unit else float(age) for count, unit, age in WINDOW.findall(expression)]


def test_nothing_but_durations_differs(shipped: str) -> None:
    before, after = alerts(shipped), alerts(shortened(shipped))
    assert list(after) == list(before)
    for name, rule in before.items():
        as_shipped = rule | {"expr": WINDOW.sub("", rule["expr"]), "for": None}
        assert after[name] | {"expr": WINDOW.sub("", after[name]["expr"]), "for": None} == as_shipped


def test_every_duration_is_shorter_by_the_same(shipped: str) -> None:
    before, after = alerts(shipped), alerts(shortened(shipped))
    of_all = [window for rule in before.values() for window in windows_s(rule["expr"])]
    assert {300.0, 900.0, 3600.0} <= set(of_all)
    for name, rule in before.items():
        assert windows_s(after[name]["expr"]) == [window / SHORTER_BY for window in windows_s(rule["expr"])], name
        held_for = [seconds(one["for"][:-1], one["for"][-1]) if "for" in one else 0.0 for one in (rule, after[name])]
        assert held_for[1] == held_for[0] / SHORTER_BY, name


def test_a_duration_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="30s is no whole number"):
        shortened("for: 30s")
