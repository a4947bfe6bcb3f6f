"""The numbers that every stream shows on /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.delays import Delays


class StreamMetrics:
    """A registry of its own, so that two streams in one test do not meet."""

    def __init__(self, process: str) -> None:
        self.registry = CollectorRegistry()
        constant = {"process": process}

        def counter(name: str, text: str) -> Counter:
            family = Counter(name, text, list(constant), registry=self.registry)
            return family.labels(**constant)

        self.events = counter("hydra_stream_events", "Messages read and processed, parked ones included")
        self.parked = counter("hydra_stream_parked", "Messages parked because they cannot be processed")
        self.unpriced = counter("hydra_stream_unpriced", "Events without a price in force, to be rated later")
        self.bad_prices = counter(
            "hydra_stream_bad_prices", "Records of hydra.prices that are no price and were ignored"
        )
        self.rows = counter("hydra_stream_rows", "Rows written to ClickHouse")
        self.conflicts = counter("hydra_stream_conflicts", "Ids that were written again with, or into, a conflict")
        self.stated = counter("hydra_stream_totals_stated", "Totals or balances published")
        self.lag: Gauge = Gauge(
            "hydra_stream_lag_messages", "Messages not yet committed", list(constant), registry=self.registry
        ).labels(**constant)
        self.delays = Delays(process, self.registry)
