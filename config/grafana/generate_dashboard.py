"""Writes config/grafana/dashboards/hydra.json, whose only source this is.

python config/grafana/generate_dashboard.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).parent / "dashboards" / "hydra.json"
ALERTS = Path(__file__).parents[1] / "prometheus" / "alerts.yml"
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS = 24
PER = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """One expression; `legend` names its series by their labels in double braces."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph over time; `number` shows the last value alone, red from 1 on."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    number: bool = False


def rate(metric: str, by: str) -> str:
    """What a counter adds a second, by one label."""
    return f"sum by ({by}) (rate({metric}{PER}))"


def quantile(share: float, histogram: str, by: str = "") -> Query:
    """A quantile of a histogram."""
    labels = ", ".join(name for name in (by, "le") if name)
    shown = f"p{share * 100:.0f}" + (f" {{{{{by}}}}}" if by else "")
    return Query(f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{PER})))", shown)


def share_of_errors() -> str:
    """What HighErrorRate is about, of the whole platform: panel and alert cannot say different things."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    (expr,) = (rule["expr"] for group in groups for rule in group["rules"] if rule["alert"] == "HighErrorRate")
    share = " ".join(expr.split()).rpartition(" > ")[0].replace("sum by (job, instance) ", "sum").replace("[5m]", PER)
    failed, _, all_requests = share.partition(" / ")
    return f"({failed} or vector(0)) / {all_requests}"


TRAFFIC = (
    Panel("Requests", "Dispatched requests by how they ended", "reqps",
          (Query(rate("hydra_gateway_requests_total", "outcome"), "{{outcome}}"),)),
    Panel("Refusals", "Requests refused before an engine saw them, by the code that the client got", "reqps",
          (Query(rate("hydra_gateway_refusals_total", "code"), "{{code}}"),)),
    Panel("Errors of the platform", "Share of requests that failed for reasons of ours", "percentunit",
          (Query(share_of_errors(), "errors"),)),
    Panel("Time to first token", "From a stream's head to its first byte", "s",
          (quantile(0.5, "hydra_gateway_first_token_seconds"), quantile(0.99, "hydra_gateway_first_token_seconds"))),
    Panel("Request time", "From head to last byte", "s",
          (quantile(0.5, "hydra_gateway_request_seconds"), quantile(0.99, "hydra_gateway_request_seconds"))),
    Panel("Tokens", "As engines reported them; prompt includes cached", "short",
          (Query(rate("hydra_gateway_tokens_total", "kind"), "{{kind}}"),)),
    Panel("In flight", "Dispatched requests that run, and open connections", "short",
          (Query("sum(hydra_gateway_in_flight)", "requests"), Query("sum(hydra_gateway_connections)", "connections")),
          width=12),
    Panel("Tried again or lost", "Retries, engines that could not be connected to, requests lost with a gateway, "
          "connections without a request that gave way to others", "ops",
          (Query(f"sum(rate(hydra_gateway_retries_total{PER}))", "retries"),
           Query(f"sum(rate(hydra_gateway_connect_failures_total{PER}))", "connect failures"),
           Query(f"sum(rate(hydra_gateway_usage_lost_total{PER}))", "lost"),
           Query(f"sum(rate(hydra_gateway_connections_given_way_total{PER}))", "connections given way")), width=12),
)  # fmt: skip

MONEY = (
    Panel("Parked", "Messages that could not be processed and were not replayed", "short",
          (Query('sum(hydra_parked_messages{reason!="unpriced"})', "parked"),), width=6, number=True),
    Panel("Unpriced", "Events that wait for a price", "short",
          (Query('sum(hydra_parked_messages{reason="unpriced"})', "unpriced"),), width=6, number=True),
    Panel("Conflicts", "Ids with two contents: their charges are in no bill", "short",
          (Query("sum(hydra_conflicts)", "conflicts"),), width=6, number=True),
    Panel("Bad prices", "Records of hydra.prices that raters ignored since their start", "short",
          (Query("sum(hydra_stream_bad_prices_total)", "bad prices"),), width=6, number=True),
    Panel("Spool age", "Since the oldest request ended whose usage Kafka lacks; spools of earlier runs beside", "s",
          (Query("max by (instance) (hydra_gateway_spool_oldest_seconds)", "{{instance}}"),
           Query("max by (instance) (hydra_gateway_adoption_waiting_seconds)", "{{instance}} earlier runs"))),
    Panel("Spool room", "Taken, and what of it Kafka lacks, of the limit", "percentunit",
          (Query("max by (instance) (hydra_gateway_spool_bytes / hydra_gateway_spool_limit_bytes)", "{{instance}}"),
           Query("max by (instance) (hydra_gateway_spool_unpublished_bytes / hydra_gateway_spool_limit_bytes)",
                 "{{instance}} not in Kafka"))),
    Panel("Lag", "Messages not yet processed", "short",
          (Query("sum by (job) (hydra_stream_lag_messages)", "{{job}}"),
           Query("sum by (job) (hydra_lifecycle_heartbeat_lag_messages)", "{{job}} heartbeats"))),
    Panel("Event to charge", "From an event's time to its charge in Kafka, or its row in ClickHouse", "s",
          (quantile(0.5, "hydra_stream_event_delay_seconds", "job"),
           quantile(0.99, "hydra_stream_event_delay_seconds", "job"))),
    Panel("Events", "Messages processed a second", "short",
          (Query(rate("hydra_stream_events_total", "job"), "{{job}}"),)),
    Panel("Effects", "Usage published, rows written, totals and balances stated, a second", "short",
          (Query(f"sum(rate(hydra_gateway_usage_published_total{PER}))", "usage published"),
           Query(f"sum(rate(hydra_stream_rows_total{PER}))", "rows"),
           Query(rate("hydra_stream_totals_stated_total", "job"), "{{job}} stated"))),
)  # fmt: skip

INSTANCES = (
    Panel("Instances", "By state, and how many are wanted", "short",
          (Query("sum by (state) (hydra_lifecycle_instances)", "{{state}}"),
           Query("sum(hydra_lifecycle_replicas_wanted)", "wanted"))),
    Panel("Services", "By status", "short", (Query("sum by (status) (hydra_lifecycle_services)", "{{status}}"),)),
    Panel("Heartbeats' age", "Since any heartbeat, and of the instance that is silent for longest", "s",
          (Query("max(hydra_lifecycle_last_heartbeat_seconds)", "last"),
           Query("max(hydra_lifecycle_longest_silence_seconds)", "longest silence"))),
    Panel("Engines", "In an hour, by node", "short",
          (Query("sum by (instance) (increase(hydra_worker_engine_starts_total[1h]))", "{{instance}} starts"),
           Query("sum by (instance) (increase(hydra_worker_engine_failures_total[1h]))", "{{instance}} failures"),
           Query("sum by (instance) (increase(hydra_worker_checks_failed_total[1h]))", "{{instance}} failed checks"))),
    Panel("Billed instances", "Billable seconds written a second: how many instances are paid for now", "short",
          (Query("sum(rate(hydra_lifecycle_billable_seconds_total[10m]))", "instances"),)),
    Panel("Given up or moved", "In an hour: instances written off, starts of billable time that were moved", "short",
          (Query("sum(increase(hydra_lifecycle_written_off_total[1h]))", "written off"),
           Query("sum(increase(hydra_lifecycle_starts_moved_total[1h]))", "starts moved"))),
)  # fmt: skip

PLATFORM = (
    Panel("Up", "1: answers; ready: can work", "short",
          (Query("min by (job) (up)", "{{job}}"), Query("min by (job) (hydra_ready)", "{{job}} ready"))),
    Panel("Restarts", "Starts in an hour beyond the first", "short",
          (Query("sum by (job) (changes(process_start_time_seconds[1h]))", "{{job}}"),)),
    Panel("Clock drift", "How far a process's wall clock is off", "s",
          (Query("max by (job) (abs(hydra_clock_drift_seconds))", "{{job}}"),
           Query("max by (node) (abs(hydra_node_clock_drift_seconds))", "{{node}}"))),
    Panel("Memory", "Resident", "bytes", (Query("sum by (job) (process_resident_memory_bytes)", "{{job}}"),)),
    Panel("CPU", "Cores", "short", (Query(rate("process_cpu_seconds_total", "job"), "{{job}}"),)),
    Panel("Outbox", "Changes that Kafka lacks", "short",
          (Query("sum by (job) (hydra_outbox_waiting)", "{{job}}"),)),
    Panel("Outbox age", "For how long the change in front waits", "s",
          (Query("max by (job) (hydra_outbox_oldest_seconds)", "{{job}}"),)),
    Panel("Control requests", "By status", "reqps",
          (Query(rate("hydra_http_requests_total", "status"), "{{status}}"),)),
    Panel("ClickHouse", "Queries by user, and the 99th percentile of their time", "short",
          (Query(rate("hydra_clickhouse_queries_total", "user"), "{{user}} queries"),
           quantile(0.99, "hydra_clickhouse_query_seconds", "user"))),
    Panel("Releases", "Processes by the release that they run", "short",
          (Query("count by (version) (hydra_build_info)", "{{version}}"),), width=24),
)  # fmt: skip

ROWS = (("Traffic", TRAFFIC), ("Money path", MONEY), ("Instances", INSTANCES), ("Platform", PLATFORM))


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
        for at, query in enumerate(panel.queries)
    ]
    red_from_one = {
        "mode": "absolute",
        "steps": [{"value": None, "color": "green"}, {"value": 1, "color": "red"}],
    }
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.number:
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": red_from_one}
        options: dict[str, Any] = {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
            "colorMode": "background",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        }
    else:
        defaults |= {"custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _panels() -> list[dict[str, Any]]:
    numbers, panels, top = count(1), [], 0
    for title, row in ROWS:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append({"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place})
        panels[-1]["panels"] = []
        top, left, height = top + 1, 0, 0
        for panel in row:
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            height = 4 if panel.number else 8
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            panels.append(_panel(next(numbers), panel, place))
            left += panel.width
        top += height
    return panels


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports and provisions it."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "hydra",
        "title": "Hydra",
        "description": "What is served, what is billed, what runs",
        "tags": ["hydra"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": _panels(),
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(dashboard(), indent=2) + "\n")
