"""The text of /metrics: what a process counts, and what every process shows of itself."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from adapters.clock_drift import DRIFT

DISTRIBUTION = "hydra-serving"
STATE_BAD_RECORDS: Counter[str] = Counter()
"""By topic: counted by its readers, shown here for every kind of process.

A reader adds 0 at first, because a series that begins at 1 has not risen, and no alert would see it.
"""


def release() -> str:
    """The release that runs; "unknown" where Hydra runs from files that were never installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Exposition:
    """One process's /metrics. `ready` says whether /health/ready would answer 200 now; it must not block."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        # A series beside each counter that tells when it began says nothing that the process's start does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        # Of its own, so that a registry that several servers show is registered in once.
        self._own = CollectorRegistry(auto_describe=False)
        self._own.register(_OfTheProcess(ready))
        if registry is not REGISTRY:  # prometheus_client's own holds these already
            ProcessCollector(registry=self._own)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry) + generate_latest(self._own)


class _OfTheProcess:
    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._labels = (release(), platform.python_version())

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("hydra_build_info", "The release that runs; always 1", labels=("version", "python"))
        build.add_metric(self._labels, 1)
        yield build
        yield GaugeMetricFamily("hydra_ready", "1 while /health/ready answers 200, else 0", value=float(self._ready()))
        bad_records = CounterMetricFamily(
            "hydra_state_bad_records", "Records of a state topic that are no state and were ignored", labels=("topic",)
        )
        for topic, count in STATE_BAD_RECORDS.items():
            bad_records.add_metric((topic,), count)
        yield bad_records
        yield GaugeMetricFamily(
            "hydra_clock_drift_seconds",
            "By how much the wall clock is ahead of Kafka's, or of where it stood before it was moved; below 0: behind",
            value=DRIFT.seconds(),
        )
