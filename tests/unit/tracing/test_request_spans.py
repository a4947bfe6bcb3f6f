"""The gateway's span is made from the event that it publishes, and changes nothing that is billed."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.tracing import Span, Traces
from domain import payload_hash
from schemas import codec
from schemas.usage import TokensUsed
from services.gateway.spans import RequestSpans
from services.gateway.spool_files import End
from tests.builders.billing_events import usage, usage_event


class Kept:
    """Takes the spans of a Traces, as a receiver would."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.spans: list[Span] = []
        self.traces = Traces(ratio, 100, self._take)

    def _take(self, spans: Sequence[Span]) -> bool:
        self.spans += spans
        return True


def end_of(data: TokensUsed) -> End:
    return End(data.request_id, data.account, codec.encode(usage_event(data)))


def test_an_event_leaves_with_its_spans_place_and_the_same_hash() -> None:
    kept, data = Kept(), usage()
    published, context = RequestSpans(kept.traces).traced(end_of(data))
    assert context is not None
    event = codec.decode(published, TokensUsed)
    assert event.traceparent == context.traceparent
    assert event.traceparent.split("-")[1] == data.request_id.removeprefix("cmp-")
    assert event.data == data
    assert payload_hash.of_usage(event.data) == payload_hash.of_usage(data)
    assert RequestSpans(kept.traces).traced(end_of(data)) == (published, context), "published again: the same bytes"


def test_what_is_not_sampled_leaves_as_it_is() -> None:
    end = end_of(usage())
    assert RequestSpans(Kept(ratio=0.0).traces).traced(end) == (end.event, None)


def test_a_span_says_what_became_of_the_request() -> None:
    kept = Kept()
    spans = RequestSpans(kept.traces)
    for data in (usage(), usage(outcome="engine_lost", status=502, completion_tokens=None, error_code="engine_lost")):
        published, context = spans.traced(end_of(data))
        assert context is not None
        spans.published(published, context)
    kept.traces.close()
    answered, lost = kept.spans
    assert (answered.name, answered.kind, answered.failed) == ("POST /v1/chat/completions", "server", False)
    assert (answered.started, answered.ended) == (usage().received, usage().ended)
    assert answered.attributes["gen_ai.usage.output_tokens"] == 500
    assert answered.attributes["hydra.account"] == "u-0123456789ab"
    assert lost.failed
    assert lost.attributes["hydra.error_code"] == "engine_lost"
    assert "gen_ai.usage.output_tokens" not in lost.attributes
    assert not any("key" in name for name in answered.attributes)
