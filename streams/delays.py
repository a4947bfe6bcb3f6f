"""A histogram of delays that takes a whole batch at once: prometheus-client's own costs a lock and a walk an event."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime

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

    def observe(self, now: datetime, event_times: Iterable[datetime]) -> None:
        """Each from its event time to `now`. One below 0, which another machine's clock can make, counts as 0."""
        delays_s = sorted([(now - time).total_seconds() for time in event_times])
        below = 0
        for bucket, bound_s in enumerate(_BUCKETS_S):
            up_to = bisect_right(delays_s, bound_s)
            self._counts[bucket] += up_to - below
            below = up_to
        self._counts[-1] += len(delays_s) - below
        self._sum_s += sum(delays_s[bisect_left(delays_s, 0.0) :])

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
