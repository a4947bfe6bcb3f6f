"""What /metrics tells of the embedded ClickHouse."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

QUERIES = Counter(
    "hydra_clickhouse_queries",
    "Requests answered, by user and by ClickHouse's error code (0: none)",
    ["user", "code"],
    registry=REGISTRY,
)
SECONDS = Histogram(
    "hydra_clickhouse_query_seconds",
    "From a request's whole body to its answer's last byte, by user",
    ["user"],
    registry=REGISTRY,
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 30, 120, 600),
)
ROWS_WRITTEN = Counter("hydra_clickhouse_rows_written", "Rows that inserts have written", registry=REGISTRY)
RUNNING = Gauge(
    "hydra_clickhouse_queries_running", "Queries that hold a place now, by user", ["user"], registry=REGISTRY
)
SESSIONS = Gauge("hydra_clickhouse_sessions", "Sessions that are held now", registry=REGISTRY)
