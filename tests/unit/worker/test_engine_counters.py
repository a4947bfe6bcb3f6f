"""Token counters out of an engine's metrics."""

from __future__ import annotations

from schemas.heartbeats import EngineCounters
from services.worker.engine_probe import counters_in

TEXT = """
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="a b{c}",streaming="true"} 1200.0
sglang:prompt_tokens_total{model_name="a",streaming="false"} 34.0
sglang:generation_tokens_total 5.6e+03
sglang:num_requests_total{model_name="a"} 7.0 1700000000000
sglang:cached_tokens_total{model_name="a"} 8.0
sglang:cached_tokens_total_created{model_name="a"} 1.7e9
sglang:prompt_tokens_histogram_bucket{le="1"} 3
sglang:num_requests_total{model_name="broken"}
"""


def test_counters_are_summed_over_their_labels() -> None:
    assert counters_in(TEXT) == EngineCounters(prompt_tokens=1234, generation_tokens=5600, cached_tokens=8, requests=7)


def test_what_is_not_told_counts_as_nothing() -> None:
    assert counters_in("") == EngineCounters()
