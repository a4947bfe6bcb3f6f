"""The dashboard is what its source says, and a dashboard by Grafana's own types."""

from __future__ import annotations

import copy
import json
import re
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.observability.observed_platform import expressions
from tests.servers.npm import node, npm_ci

LOCK = Path("requirements/grafana")
SCHEMA_MAKER = Path("node_modules/ts-json-schema-generator/bin/ts-json-schema-generator.js")
DASHBOARD = Path("config/grafana/dashboards/hydra.json")


@pytest.fixture(scope="module")
def schema(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Draft7Validator:
    """The JSON Schema of Grafana's types."""
    folder = project_root / ".tools" / "grafana"
    npm_ci(project_root / LOCK, folder)
    made = tmp_path_factory.mktemp("grafana") / "schema.json"
    command = [str(node()), str(folder / SCHEMA_MAKER), "--path", "checked.ts", "--type", "Checked", "--no-type-check"]
    done = subprocess.run(
        [*command, "-o", str(made)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return Draft7Validator(json.loads(made.read_text()))


@pytest.fixture
def dashboard(project_root: Path) -> dict[str, Any]:
    """The dashboard as it is provisioned."""
    decoded: dict[str, Any] = json.loads((project_root / DASHBOARD).read_text())
    return decoded


def problems(schema: Draft7Validator, dashboard: dict[str, Any]) -> list[str]:
    """What Grafana's types say against it: the whole, then each panel's own options."""

    def against(name: str, value: object) -> list[str]:
        of = schema.evolve(schema=schema.schema | {"$ref": f"#/definitions/Checked/properties/{name}"})
        return [f"{name} {list(error.absolute_path)}: {error.message[:200]}" for error in of.iter_errors(value)]

    found = against("dashboard", dashboard)
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            found += against(panel["type"], panel["options"])
        if panel["type"] == "timeseries":
            found += against("timeseriesField", panel["fieldConfig"]["defaults"]["custom"])
    return found


def test_it_is_what_its_source_says(project_root: Path) -> None:
    source = runpy.run_path(str(project_root / "config" / "grafana" / "generate_dashboard.py"))
    written = json.dumps(source["dashboard"](), indent=2) + "\n"
    assert (project_root / DASHBOARD).read_text() == written, "run: python config/grafana/generate_dashboard.py"


def test_the_panel_of_errors_counts_what_the_alert_counts(dashboard: dict[str, Any]) -> None:
    def counted(expr: str) -> list[str]:
        return re.findall(r"hydra_\w+(?:{[^}]*})?", expr)

    (panel,) = (panel for panel in dashboard["panels"] if panel["title"] == "Errors of the platform")
    (target,) = panel["targets"]
    assert counted(target["expr"]) == counted(expressions()["HighErrorRate"]) != []


def test_it_is_a_dashboard_by_grafanas_types(schema: Draft7Validator, dashboard: dict[str, Any]) -> None:
    assert problems(schema, dashboard) == []


def first(dashboard: dict[str, Any], kind: str) -> dict[str, Any]:
    panel: dict[str, Any] = next(panel for panel in dashboard["panels"] if panel["type"] == kind)
    return panel


@pytest.mark.parametrize(
    "spoil",
    [
        lambda it: it.update(unknown=1),
        lambda it: it.pop("schemaVersion"),
        lambda it: first(it, "timeseries")["gridPos"].update(w="wide"),
        lambda it: first(it, "timeseries")["options"]["legend"].update(placement="left"),
        lambda it: first(it, "timeseries")["fieldConfig"]["defaults"]["custom"].update(drawStyle="dots"),
        lambda it: first(it, "stat")["options"].update(colorMode="loud"),
    ],
)
def test_the_types_find_what_is_wrong(
    schema: Draft7Validator, dashboard: dict[str, Any], spoil: Callable[[dict[str, Any]], object]
) -> None:
    spoiled = copy.deepcopy(dashboard)
    spoil(spoiled)
    assert problems(schema, spoiled) != []


def test_panels_do_not_overlap_and_have_numbers_of_their_own(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
