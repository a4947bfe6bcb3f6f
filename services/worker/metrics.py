"""The node agent's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class WorkerMetrics:
    """Registered once a process, in the registry that its health server shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.engine_starts = Counter("hydra_worker_engine_starts", "Engine starts", registry=registry)
        self.engine_exits = Counter("hydra_worker_engine_exits", "Engines that ended unasked", registry=registry)
        self.engine_failures = Counter(
            "hydra_worker_engine_failures", "Engines that died, hung or could not be started", registry=registry
        )
        self.checks_failed = Counter("hydra_worker_checks_failed", "Checks a ready engine failed", registry=registry)
        self.heartbeats = Counter("hydra_worker_heartbeats", "Heartbeats that Kafka acknowledged", registry=registry)
        self.heartbeats_failed = Counter(
            "hydra_worker_heartbeats_failed", "Heartbeats that Kafka did not take", registry=registry
        )
        self.records_unwritten = Counter(
            "hydra_worker_records_unwritten", "Writes to the agent's folder that failed", registry=registry
        )
        self.instances = Gauge("hydra_worker_instances", "Instances by their state", ["state"], registry=registry)
        self.periods_unacknowledged = Gauge(
            "hydra_worker_periods_unacknowledged", "Ready periods not yet billed by lifecycle", registry=registry
        )
