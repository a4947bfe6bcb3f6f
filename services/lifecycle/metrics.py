"""Lifecycle's counters and gauges for /metrics."""

from prometheus_client import Counter, Gauge

INTERVALS = Counter("hydra_lifecycle_intervals_total", "Billable intervals written")
SECONDS = Counter("hydra_lifecycle_billable_seconds_total", "Seconds in the billable intervals written")
CLOCK_MOVED = Counter(
    "hydra_lifecycle_starts_moved_total", "Ready periods whose start was moved because a node's clock stood too early"
)
WRITTEN_OFF = Counter("hydra_lifecycle_written_off_total", "Instances given up because nothing was heard of them")
HEARTBEATS = Counter("hydra_lifecycle_heartbeats_total", "Heartbeats read", ["kind"])
BAD_HEARTBEATS = Counter("hydra_lifecycle_bad_heartbeats_total", "Messages on the heartbeat topic that are none")
LAG = Gauge(
    "hydra_lifecycle_heartbeat_lag_messages", "Heartbeats that Kafka had and that were not applied at the last look"
)
LAST_HEARTBEAT = Gauge(
    "hydra_lifecycle_last_heartbeat_seconds", "Since any heartbeat was read; counted from the start where none was"
)
LONGEST_SILENCE = Gauge(
    "hydra_lifecycle_longest_silence_seconds",
    "Of the living instance that was not heard of for longest; 0 while silence cannot be believed",
)
REPLICAS_WANTED = Gauge("hydra_lifecycle_replicas_wanted", "Instances that running services want, all together")
INSTANCES = Gauge("hydra_lifecycle_instances", "Instances that are not gone", ["state"])
SERVICES = Gauge("hydra_lifecycle_services", "Services that are not deleted", ["status"])
DECISIONS = Counter("hydra_lifecycle_decisions_total", "Transactions of the reconciler that changed something")
