"""Counters of the gateway: plain integers on the hot path, Prometheus' text format when asked. Labels are bounded."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from adapters.clock import wall_now
from adapters.process_metrics import Exposition
from adapters.tracing import Traces
from schemas.usage import UsageOutcome
from services.gateway.answers import Refusal
from services.gateway.metering import Meter
from services.gateway.spool_age import oldest_unpublished
from services.gateway.stream_usage import Usage

if TYPE_CHECKING:
    from services.gateway.server import Gateway

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


NOT_READ = "none"
"""The endpoint of a refusal that was given before any request was read."""


class _Times:
    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BUCKETS_S, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        total = 0
        result: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, _BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            result.append((bound, total))
        return result


class Metrics:
    """What the data plane counts."""

    def __init__(self) -> None:
        self._finished: Counter[tuple[str, str, int]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._unparsed: Counter[int] = Counter()
        self._tokens: Counter[str] = Counter()
        self._durations = _Times()
        self._first_tokens = _Times()
        self.connect_failures = 0
        self.connections_given_way = 0
        self.retries = 0
        self.spool_full = 0
        self.published = 0
        self.publish_failures = 0
        self.adopted_events = 0
        self.lost_requests = 0
        self.adoption_waits_since: float | None = None
        self.unreadable_spools = 0
        self.damaged_spools = 0
        self.time_doubtful = 0
        self.traces: Traces | None = None

    def finished(self, meter: Meter, outcome: UsageOutcome, status: int, usage: Usage | None, ended: datetime) -> None:
        self._finished[meter.endpoint, outcome, status] += 1
        # Below 0 where the wall clock was set back in between.
        self._durations.add(max(0.0, (ended - meter.received).total_seconds()))
        if meter.first_token is not None:
            self._first_tokens.add(max(0.0, (meter.first_token - meter.received).total_seconds()))
        if meter.time_doubtful:
            self.time_doubtful += 1
        if outcome == "gateway_lost":
            self.lost_requests += 1
        if usage is not None:
            self._tokens["prompt"] += usage.prompt_tokens
            self._tokens["cached"] += usage.cached_tokens or 0
            self._tokens["completion"] += usage.completion_tokens or 0

    def refused(self, endpoint: str, refusal: Refusal) -> None:
        self._refused[endpoint, refusal.code] += 1

    def unparsed(self, status: int) -> None:
        self._unparsed[status] += 1

    def exposition(self, gateway: Gateway) -> bytes:
        """Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self, gateway))
        return Exposition(registry, lambda: gateway.readiness()[0] in ("ok", "degraded")).text()

    def families(self, gateway: Gateway) -> Iterator[Metric]:
        finished = CounterMetricFamily(
            "hydra_gateway_requests",
            "Dispatched inference requests that have ended",
            labels=("endpoint", "outcome", "status"),
        )
        for (endpoint, outcome, status), count in self._finished.items():
            finished.add_metric((endpoint, outcome, str(status)), count)
        yield finished
        refused = CounterMetricFamily(
            "hydra_gateway_refusals", "Requests refused before dispatch", labels=("endpoint", "code")
        )
        for (endpoint, code), count in self._refused.items():
            refused.add_metric((endpoint, code), count)
        yield refused
        unparsed = CounterMetricFamily("hydra_gateway_bad_http", "Bytes that were no request", labels=("status",))
        for status, count in self._unparsed.items():
            unparsed.add_metric((str(status),), count)
        yield unparsed
        tokens = CounterMetricFamily(
            "hydra_gateway_tokens", "Tokens as engines reported them; prompt includes cached", labels=("kind",)
        )
        for kind, count in self._tokens.items():
            tokens.add_metric((kind,), count)
        yield tokens
        for name, text, times in (
            ("hydra_gateway_request_seconds", "From head to last byte", self._durations),
            ("hydra_gateway_first_token_seconds", "From head to first streamed byte", self._first_tokens),
        ):
            family = HistogramMetricFamily(name, text)
            family.add_metric((), times.buckets(), times.sum)
            yield family
        yield from self._plain_counters(gateway)
        if self.traces is not None:
            yield from self.traces.collect()
        yield from self._gauges(gateway)

    def _plain_counters(self, gateway: Gateway) -> Iterator[Metric]:
        for name, text, value in (
            ("connect_failures", "Connections to an engine that could not be made", self.connect_failures),
            (
                "connections_given_way",
                "Connections without a whole request that were closed because another came and there was no more room",
                self.connections_given_way,
            ),
            ("retries", "Requests tried again on another instance", self.retries),
            ("spool_full", "Requests refused because the spool had no room", self.spool_full),
            ("spool_write_failures", "Writes to the spool that failed or fell short", gateway.spool.write_failures),
            ("usage_published", "Usage events that Kafka acknowledged", self.published),
            ("usage_publish_failures", "Batches of usage that Kafka did not take", self.publish_failures),
            ("usage_time_doubtful", "Usage events whose times a wrong wall clock gave", self.time_doubtful),
            ("usage_adopted", "Usage events published from spools of earlier runs", self.adopted_events),
            (
                "usage_lost",
                "Requests that ran when their gateway died, and those that its stop broke off: charged to nobody",
                self.lost_requests,
            ),
            ("spools_unreadable", "Times that a spool of an earlier run could not be read", self.unreadable_spools),
            (
                "endpoints_unusable",
                "Addresses of instances that could not be understood",
                gateway.routes.unusable_endpoints,
            ),
        ):
            yield CounterMetricFamily(f"hydra_gateway_{name}", text, value=value)

    def _gauges(self, gateway: Gateway) -> Iterator[Metric]:
        ended = oldest_unpublished(gateway.spool.segments)
        oldest_s = max(0.0, (wall_now() - ended).total_seconds()) if ended is not None else 0.0
        waits_since = self.adoption_waits_since
        for name, text, number in (
            ("connections", "Clients' open connections", len(gateway.connections)),
            ("in_flight", "Dispatched requests that have not ended", gateway.in_flight),
            ("spool_bytes", "Bytes of the spool on disk and reserved", gateway.spool.bytes_used),
            ("spool_limit_bytes", "Bytes that the spool may take", gateway.settings.spool_bytes_max),
            ("spool_unpublished_bytes", "Bytes of the spool that Kafka lacks", gateway.spool.bytes_unpublished),
            ("spools_damaged", "Files of damaged spools that were kept aside and lie there", self.damaged_spools),
            ("spool_oldest_seconds", "Age of the oldest usage that Kafka lacks; 0: none", oldest_s),
            (
                "adoption_waiting_seconds",
                "For how long spools of earlier runs could not be published; 0: none waits",
                0.0 if waits_since is None else time.monotonic() - waits_since,
            ),
            ("state_age_seconds", "Since keys and services were last known to be Kafka's", gateway.state_age_s()),
            ("degraded", "1 while Kafka is away and what was last known is used", int(gateway.degraded())),
        ):
            yield GaugeMetricFamily(f"hydra_gateway_{name}", text, value=float(number))


class _Collector:
    def __init__(self, metrics: Metrics, gateway: Gateway) -> None:
        self._metrics = metrics
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families(self._gateway)
