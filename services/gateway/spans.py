"""The gateway's spans: made from usage events when they are published, so that no request pays for its trace."""

from __future__ import annotations

import logging

import msgspec

from adapters.tracing import Span, TraceContext, Traces
from schemas import codec
from schemas.usage import TokensUsed
from services.gateway.spool_files import End

logger = logging.getLogger(__name__)

FAILED = frozenset({"engine_lost", "engine_refused", "gateway_lost", "upstream_timeout"})


class RequestSpans:
    """Events leave with the `traceparent` of their span; the span itself leaves once Kafka has the event."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    def traced(self, end: End) -> tuple[bytes, TraceContext | None]:
        """The event's bytes as they are published. What is not sampled stays as it is."""
        context = self._traces.of_request(end.request_id)
        if context is None or not end.event.endswith(b"}"):
            return end.event, None
        # Outside every hash, and the same bytes whenever it is published again.
        return b'%b,"traceparent":"%b"}' % (end.event[:-1], context.traceparent.encode()), context

    def published(self, event: bytes, context: TraceContext) -> None:
        try:
            usage = codec.decode(event, TokensUsed).data
        except msgspec.DecodeError as error:
            logger.error("an event of the spool gives no span", extra={"cause": type(error).__name__})
            return
        self._traces.add(_span(usage, context))


def _span(usage: TokensUsed, context: TraceContext) -> Span:
    known: dict[str, str | int | None] = {
        "http.request.method": "POST",
        "http.response.status_code": usage.status,
        "gen_ai.operation.name": "chat" if usage.endpoint == "chat.completions" else "text_completion",
        "gen_ai.request.model": usage.access_path or None,
        "gen_ai.response.model": usage.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "hydra.cached_tokens": usage.cached_tokens,
        "hydra.request_id": usage.request_id,
        "hydra.account": usage.account,
        "hydra.outcome": usage.outcome,
        "hydra.error_code": usage.error_code,
        "hydra.instance": usage.instance,
        "hydra.region": usage.region,
        "hydra.attempts": len(usage.attempts) or None,
    }
    attributes: dict[str, str | int | bool] = {name: value for name, value in known.items() if value is not None}
    return Span(
        context,
        f"POST /v1/{usage.endpoint.replace('.', '/')}",
        "server",
        usage.received,
        usage.ended,
        attributes | {"hydra.streamed": usage.streamed},
        moments=(("first token", usage.first_token),) if usage.first_token is not None else (),
        failed=usage.outcome in FAILED or usage.status >= 500,
    )
