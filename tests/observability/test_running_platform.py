"""What a running platform shows of itself, and what a real Prometheus makes of it: every query, every alert's
expression, and real faults that make alerts true. Tests run in this order; each leaves the platform whole."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.secret_files import ANALYST_PASSWORD
from schemas import codec
from schemas.topics import ACCOUNTS, HEARTBEATS, PRICES, USAGE
from tests.builders.billing_events import usage, usage_event
from tests.observability import metrics_page
from tests.observability.observed_platform import SERVING, Observed, expressions, observed_platform
from tests.servers.child_process import end_with_parent
from tests.servers.otlp_receiver import running_otlp_receiver
from tests.servers.platform import ROOT, Platform, wait_until
from tests.servers.ports import free_port
from tests.servers.prometheus import PrometheusPackage

SHORT = ("[2m]", "[20s]")
METRIC = re.compile(r"\b(?:hydra|process)_[a-z_]+\b|\bup\b")
NOT_BOUNDED = re.compile(r"\b(?:[ukis]-[0-9a-f]{12}|cmp-|req-|sk-|op-)")


@pytest.fixture(scope="module")
def observed(prometheus: PrometheusPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    # With a receiver of traces, because what counts them is not shown without.
    with (
        running_otlp_receiver() as receiver,
        observed_platform(prometheus, folder, HYDRA_TRACES_ENDPOINT=receiver.url) as observed,
    ):
        yield observed


def traffic(observed: Observed) -> None:
    """Answered, streamed and refused requests."""
    assert [observed.ask(), observed.ask(stream=True), observed.ask(path="completions")] == [200, 200, 200]
    assert (observed.ask(model="public/none"), observed.ask(temperature=-1)) == (404, 400)


@pytest.mark.parametrize("process", SERVING)
def test_every_process_shows_that_it_lives_is_ready_and_what_it_counts(observed: Observed, process: str) -> None:
    answers = {
        path: httpx.get(observed.platform.url(process) + path, timeout=30, trust_env=False)
        for path in ("/health/live", "/health/ready", "/metrics")
    }
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert isinstance(answers["/health/live"].json()["status"], str)
    shown = answers["/metrics"].text
    assert "hydra_ready 1.0" in shown and "process_resident_memory_bytes" in shown
    assert re.search(r'hydra_build_info\{python="[\d.]+",version="\d[^"]+"\} 1\.0', shown)


def test_no_label_names_a_customer_a_key_or_a_request(observed: Observed) -> None:
    traffic(observed)
    for process in SERVING:
        labels = re.findall(r"^[^#{]+\{(.*)\} ", observed.scraped(process), re.MULTILINE)
        assert labels
        assert [found for found in labels if NOT_BOUNDED.search(found) or observed.account in found] == []


def test_the_page_of_metrics_says_what_processes_show(observed: Observed, project_root: Path) -> None:
    """Names, kinds, processes and meanings are the same; a label is documented before it is shown."""
    shown = metrics_page.shown({process: observed.scraped(process) for process in SERVING})
    documented = metrics_page.documented(project_root / "docs" / "metrics.md")
    wanted = {
        name: dataclasses.replace(row, labels=row.labels | documented[name].labels) if name in documented else row
        for name, row in shown.items()
    }
    differing = [metrics_page.line(name, row) for name, row in sorted(wanted.items()) if documented.get(name) != row]
    assert (differing, sorted(documented.keys() - shown.keys())) == ([], []), "\n".join(["docs/metrics.md", *differing])


def dashboard_queries(project_root: Path) -> list[str]:
    dashboard = json.loads((project_root / "config" / "grafana" / "dashboards" / "hydra.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_every_query_of_the_dashboard_returns_series(observed: Observed, project_root: Path) -> None:
    traffic(observed)
    queries = [query.replace("$__rate_interval", "20s") for query in dashboard_queries(project_root)]
    assert len(queries) > 50
    empty: list[str] = []

    def all_return() -> bool:
        traffic(observed)
        empty[:] = [query for query in queries if not observed.prometheus.query(query)]
        return not empty

    wait_until(all_return, f"no series: {empty}", 60, 2)


def test_prometheus_evaluates_every_alert_and_knows_every_metric_in_it(observed: Observed) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = observed.prometheus.get("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules: list[dict[str, Any]] = wait_until(evaluated, "every rule was evaluated")
    assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in rules} == dict.fromkeys(
        expressions(), ("ok", "")
    )
    known = set(observed.prometheus.get("/api/v1/label/__name__/values"))
    for alert, expression in expressions().items():
        assert observed.prometheus.query(expression) is not None
        unknown = set(METRIC.findall(re.sub(r'"[^"]*"', "", expression))) - known
        assert not unknown, (alert, unknown)


def test_a_platform_at_rest_has_no_lag_and_no_alert_but_of_its_start(observed: Observed) -> None:
    processed = "sum(hydra_stream_lag_messages) == 0"
    wait_until(lambda: observed.prometheus.query(processed), processed, 60)
    # Heartbeats go on.
    assert observed.prometheus.query("hydra_lifecycle_heartbeat_lag_messages < 20")
    active = observed.prometheus.get("/api/v1/alerts")["alerts"]
    assert [alert["labels"] for alert in active if alert["state"] == "firing"] == []


def test_the_statements_that_the_page_of_operations_names_run(observed: Observed, project_root: Path) -> None:
    page = (project_root / "docs" / "operations.md").read_text()
    statements = set(re.findall(r'hydra sql "(SELECT [^"]+)"', page))
    assert len(statements) >= 4
    password = (observed.platform.home / "secrets" / ANALYST_PASSWORD).read_text().strip()
    for statement in statements:
        answer = httpx.post(
            observed.platform.url("clickhouse"),
            params={"database": "hydra"},
            auth=("analyst", password),
            content=statement,
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 200, (statement, answer.text)


def test_what_no_bill_holds_is_seen(observed: Observed) -> None:
    """Parked, unpriced and conflicting events, a charge that comes late, a price and a heartbeat that are none."""
    late = usage(9_001)
    again = usage(9_001, completion_tokens=7)
    unpriced = usage(9_002, model="never-priced")
    observed.publish(USAGE, b"garbage", *(codec.encode(usage_event(one)) for one in (late, again, unpriced)))
    observed.publish(PRICES, b"garbage")
    for topic in (HEARTBEATS, ACCOUNTS):
        observed.publish(topic, b"garbage")
    alerts = "MessagesParked OpenMatters UsageUnpriced Conflicts BadPrices BadHeartbeats BadStates EventToChargeSlow"
    for alert in alerts.split():
        observed.await_alert(alert)
    # Counted in all, so also after whoever counted it has started again.
    os.kill(observed.pid("warehouse"), signal.SIGKILL)
    observed.await_alert("ProcessRestarts", ("> 2", "> 0"))
    counted = 'sum(hydra_parked_messages{reason="unpriced"}) == 1 and sum(hydra_conflicts) > 0'
    wait_until(lambda: observed.prometheus.query(counted), counted)


def test_without_kafka_what_waits_is_seen_and_then_leaves(observed: Observed) -> None:
    lowered = {"SpoolOld": [("> 60", "> 1")], "OutboxStuck": [("> 60", "> 1")]}
    seen = {"GatewayDegraded": [], "ProcessNotReady": [], **lowered}
    with observed.paused("kafka"):
        observed.ask()
        observed.platform.run("account", "create", "waits")
        for alert, thresholds in seen.items():
            observed.await_alert(alert, *thresholds)
    for alert, thresholds in seen.items():
        observed.await_alert(alert, *thresholds, true=False)


def test_without_clickhouse_the_warehouse_is_seen_to_stand_still(observed: Observed) -> None:
    with observed.paused("clickhouse"):
        for _ in range(6):
            observed.ask()
        observed.await_alert("ProcessDown")
        observed.await_alert("ConsumerLag", ("> 10000", "> 5"))
        observed.await_alert("WarehouseNotWriting", SHORT)
    observed.await_alert("WarehouseNotWriting", SHORT, true=False)
    observed.await_alert("ProcessDown", true=False)


def test_engines_that_die_and_a_silent_agent_are_seen(observed: Observed) -> None:
    with observed.paused("worker"):
        for pid in observed.engine_pids():
            os.kill(pid, signal.SIGKILL)
        # A sound agent is never silent for longer than its beats are apart, 5 s.
        observed.await_alert("NoHeartbeats", ("> 30", "> 12"))
        observed.await_alert("HighErrorRate", meanwhile=lambda: observed.ask())
    observed.await_alert("EngineRestarts", ("> 2", "> 0"))
    observed.await_alert("InstancesNotReady")
    observed.await_alert("InstancesNotReady", true=False)
    wait_until(lambda: observed.ask() == 200, "requests are served again")


def test_one_gateway_of_two_that_is_gone_is_seen(observed: Observed) -> None:
    """Whoever finds them by name asks one that is gone no more, so that no question fails."""
    first, second = observed.platform.ports["gateway"], free_port()
    window = ("[15m:15s]", "[20s:1s]")
    with another_gateway(observed.platform, second) as gateway:
        observed.prometheus.scrape("gateway", [first, second])
        both = 'quantile_over_time(0.9, count by (job) (up{job="gateway"} == 1)[20s:1s]) == 2'
        wait_until(lambda: observed.prometheus.query(both), "two gateways are scraped")
        assert not observed.prometheus.query(expressions()["ProcessGone"].replace(*window))
        gateway.kill()
        observed.prometheus.scrape("gateway", [first])
        observed.await_alert("ProcessGone", window)
    observed.await_alert("ProcessGone", window, true=False)


@contextmanager
def another_gateway(platform: Platform, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A second one beside that of the platform, with a spool of its own."""
    of_its_own = {"HYDRA_GATEWAY_PORT": str(port), "HYDRA_KAFKA_BOOTSTRAP": platform.kafka}
    with (platform.home / "logs" / "another-gateway.log").open("wb") as log:
        command = [sys.executable, "-m", "services.gateway"]
        environment = platform.environment | of_its_own
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=end_with_parent
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
