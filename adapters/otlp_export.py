"""Spans to an OTLP receiver by HTTP, by OpenTelemetry's own exporter. Loaded only where traces are asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from adapters.process_metrics import release
from adapters.tracing import Span

_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OtlpExport:
    """Called with spans, it sends them and says whether the receiver took them. It tries again within its timeout."""

    def __init__(self, process: str, endpoint: str, timeout_s: float) -> None:
        # It reports each failure with its whole traceback; Traces counts them and says so once a minute.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        version = release()
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=timeout_s)
        self._resource = Resource({"service.name": f"hydra-{process}", "service.version": version})
        self._scope = InstrumentationScope("hydra", version)

    def __call__(self, spans: Sequence[Span]) -> bool:
        try:
            return self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS
        except Exception:
            # Whatever a receiver or a proxy answers: traces are an aid, and must end no process.
            return False

    def _readable(self, span: Span) -> ReadableSpan:
        context = span.context
        return ReadableSpan(
            name=span.name,
            context=_context(context.trace_id, context.span_id, remote=False),
            parent=_context(context.trace_id, context.parent_id, remote=True) if context.parent_id else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[Event(name, timestamp=_nanoseconds(at)) for name, at in span.moments],
            kind=_KINDS[span.kind],
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=_nanoseconds(span.started),
            # A wall clock that was set back in between must not make a span end before it begins.
            end_time=_nanoseconds(max(span.started, span.ended)),
        )


def _context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(instant: datetime) -> int:
    since = instant - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
