"""The histogram of delays shows what prometheus-client's own would."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, Histogram

from streams.delays import _BUCKETS_S, Delays

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BATCHES_S = (
    [0.0, -5.0, 0.005, 0.005001, 1.0, 0.3],
    [],
    [7_200.0, 3_600.0, 3_599.9, 0.26, 0.25],
)


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    kept: Iterable[tuple[str, str, float]] = (
        (sample.name, sample.labels.get("le", ""), sample.value)
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )
    return {(name, bound): round(value, 9) for name, bound, value in kept}


def test_batches_of_delays_count_as_one_by_one() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    delays = Delays("token_charges", ours)
    peer = Histogram(
        "hydra_stream_event_delay_seconds", "the same", ("process",), buckets=_BUCKETS_S, registry=theirs
    ).labels("token_charges")
    for batch in BATCHES_S:
        delays.observe(NOW, [NOW - timedelta(seconds=delay_s) for delay_s in batch])
        for delay_s in batch:
            peer.observe(max(0.0, delay_s))
    assert samples(ours) == samples(theirs)
