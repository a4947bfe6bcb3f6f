"""Ids, sampling and the bounded queue of traces."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.errors import Misconfigured
from adapters.tracing import Span, TraceContext, Traces, TracingSettings, traces_of
from tests.servers.otlp_receiver import running_otlp_receiver
from tests.servers.platform import wait_until

ROOT = Path(__file__).resolve().parents[3]
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
REQUEST = "cmp-" + "0123456789abcdef" * 2


def taken(spans: Sequence[Span]) -> bool:
    return True


def span(context: TraceContext) -> Span:
    return Span(context, "step", "consumer", AT, AT + timedelta(seconds=1), {"tokens": 3}, (("first token", AT),))


def test_a_requests_id_is_its_traces_and_every_step_derives_the_same_spans() -> None:
    first, second = Traces(1.0, 10, taken), Traces(1.0, 10, taken)
    root = first.of_request(REQUEST)
    assert root is not None
    assert root.trace_id == REQUEST.removeprefix("cmp-")
    assert second.of_request(REQUEST) == root
    child = Traces.child(root.traceparent, "usage", REQUEST)
    assert child is not None
    assert (child.trace_id, child.parent_id) == (root.trace_id, root.span_id)
    assert Traces.child(root.traceparent, "charges", REQUEST) != child
    assert first.of_request("not-an-id-of-ours") is None


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "garbage",
        f"00-{'0' * 31}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}-00",
        f"ff-{'1' * 32}-{'1' * 16}-01",
    ],
)
def test_what_is_not_sampled_or_no_traceparent_goes_on_untraced(traceparent: str | None) -> None:
    assert Traces.child(traceparent, "usage", REQUEST) is None


def test_the_ratio_decides_by_the_id_alone() -> None:
    none, half, all_ = (Traces(ratio, 10, taken) for ratio in (0.0, 0.5, 1.0))
    ids = [f"cmp-{'0' * 16}{number * ((1 << 64) // 1000):016x}" for number in range(1, 1000)]
    assert not any(none.of_request(id) for id in ids)
    assert all(all_.of_request(id) for id in ids)
    assert sum(half.of_request(id) is not None for id in ids) == 500


def test_a_receiver_that_hangs_costs_spans_and_never_a_wait() -> None:
    gate, at_work = threading.Event(), threading.Event()

    def hangs(spans: Sequence[Span]) -> bool:
        at_work.set()
        return gate.wait(60)

    traces = Traces(1.0, 5, hangs)
    context = traces.of_request(REQUEST)
    assert context is not None
    traces.add(span(context))
    assert at_work.wait(60)
    for _ in range(8):
        traces.add(span(context))
    assert traces.dropped == 3
    gate.set()
    traces.close()
    assert (traces.sent, traces.dropped, traces.failed) == (6, 3, 0)


def test_spans_reach_a_real_receiver_and_one_that_refuses_is_counted() -> None:
    with running_otlp_receiver() as receiver:
        settings = TracingSettings(endpoint=receiver.url + "/", timeout_s=1)
        traces = traces_of("a_process", settings)
        assert traces is not None
        context = traces.of_event("i-0123456789ab-1-1")
        assert context is not None
        traces.add(span(context))
        wait_until(lambda: receiver.spans, "the span arrives")
        (received,) = receiver.spans
        assert (received.service, received.name, received.attributes) == ("hydra-a_process", "step", {"tokens": 3})
        assert (received.trace_id, received.span_id) == (context.trace_id, context.span_id)
        assert received.ended_ns - received.started_ns == 10**9
        receiver.refuse = True
        traces.add(span(context))
        wait_until(lambda: traces.failed == 1, "the refusal is counted")
        traces.close()


def test_without_an_endpoint_opentelemetry_is_not_even_loaded() -> None:
    code = (
        "import sys; from adapters.tracing import traces_of; import streams.charging, services.gateway.publisher;"
        "assert traces_of('x') is None; assert not any(m.startswith('opentelemetry.sdk') for m in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


def test_settings_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert TracingSettings().endpoint == "http://collector:4318"
    monkeypatch.setenv("HYDRA_TRACES_ENDPOINT", "collector:4318")
    with pytest.raises(Misconfigured, match="HYDRA_TRACES_ENDPOINT"):
        traces_of("x")
    monkeypatch.setenv("HYDRA_TRACES_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("HYDRA_TRACES_RATIO", "2")
    with pytest.raises(Misconfigured, match="HYDRA_TRACES_RATIO"):
        traces_of("x")
