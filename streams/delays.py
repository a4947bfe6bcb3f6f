"""A histogram of delays that takes a whole batch at once: prometheus-client's own costs a lock and a walk an event."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Delays:
    """`hydra_stream_event_delay_seconds`, as /metrics shows it."""

    def __init__(self, process: str, registry: CollectorRegistry) -> None:
        self._process = process
        self._counts = [0] * (len(_BUCKETS_S) + 1)
        self._sum_s = 0.0
        registry.register(self)

    def observe(self, delays_s: Iterable[float]) -> None:
        """A delay below 0, which another machine's clock can make, counts as 0."""
        for delay_s in delays_s:
            self._counts[bisect_left(_BUCKETS_S, delay_s)] += 1
            self._sum_s += max(0.0, delay_s)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "hydra_stream_event_delay_seconds",
            "From event time to the moment at which its effect was written",
            labels=("process",),
        )
        so_far, buckets = 0, []
        for bound, count in zip((*map(str, map(float, _BUCKETS_S)), "+Inf"), self._counts, strict=True):
            so_far += count
            buckets.append((bound, float(so_far)))
        family.add_metric((self._process,), buckets, self._sum_s)
        yield family
