"""The alert rules: what promtool says of them, and that each is tried both ways and explained."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.processes import PROCESSES
from tests.servers.prometheus import PrometheusPackage

RULES = Path("config/prometheus/alerts.yml")
CONFIGURATION = Path("config/prometheus/prometheus.yml")
UNIT_TESTS = Path("tests/observability/alerts_test.yml")


def rules(project_root: Path) -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    groups = yaml.safe_load((project_root / RULES).read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@pytest.mark.parametrize(
    "words",
    [("check", "config", str(CONFIGURATION)), ("check", "rules", str(RULES)), ("test", "rules", str(UNIT_TESTS))],
)
def test_promtool_accepts_the_rules_and_their_unit_tests(
    prometheus: PrometheusPackage, project_root: Path, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [prometheus.promtool, *words], cwd=project_root, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_process_is_scraped_in_a_job_of_its_name(project_root: Path) -> None:
    """The rules and the dashboard name processes by their job. The compose file has a ClickHouse server, not ours."""
    jobs = [job["job_name"] for job in yaml.safe_load((project_root / CONFIGURATION).read_text())["scrape_configs"]]
    serving = {process.name for process in PROCESSES if process.probe == "http"}
    assert set(jobs) >= serving - {"clickhouse"} and len(jobs) == len(set(jobs))


def test_every_alert_is_seen_to_fire_and_to_be_quiet_on_both_sides(project_root: Path) -> None:
    tried: dict[str, list[list[Any]]] = {}
    for case in yaml.safe_load((project_root / UNIT_TESTS).read_text())["tests"]:
        steps = case.get("promql_expr_test", [])
        named = {label for step in steps for sample in step["exp_samples"] for label in [sample["labels"]]}
        assert len(named) <= 1, f"{case['name']} is about one alert"
        for label in named:
            tried.setdefault(re.sub(r'.*alertname="(\w+)".*', r"\1", label), []).append(
                [bool(step["exp_samples"]) for step in steps]
            )
    assert set(tried) == set(rules(project_root))
    assert {tuple(steps) for cases in tried.values() for steps in cases} == {(False, True, False)}


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(project_root: Path) -> None:
    for name, rule in rules(project_root).items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}", name
