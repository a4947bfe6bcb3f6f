"""Traces: one from a request to its charge in ClickHouse. Nothing is made where no endpoint is set.

Ids are derived, never drawn: a trace is its request's 32 hex digits, a span is its step and its event, so whatever is
published, rated or written again tells of the same span. Every process follows the first one's choice of what is
sampled, which the `traceparent` of an event carries. A span costs its process one entry of a bounded queue; a thread
sends them by OTLP, and what does not fit is dropped and counted.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from prometheus_client.core import CounterMetricFamily, Metric
from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.errors import Misconfigured

logger = logging.getLogger(__name__)

SPANS_PER_EXPORT_MAX = 512
EXPORT_EVERY_S = 1.0
CLOSE_TIMEOUT_S = 5.0
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_REQUEST = re.compile(r"cmp-([0-9a-f]{32})")
_SAMPLED = 1
_NO_TRACE = "0" * 32


class TracingSettings(BaseSettings):
    """Prefix `HYDRA_TRACES_`, of every process that makes spans. Headers and certificates of the receiver are given as
    OpenTelemetry's exporter reads them itself (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`)."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_TRACES_", frozen=True, extra="ignore", populate_by_name=True)

    endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HYDRA_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="where an OTLP receiver listens by HTTP, without `/v1/traces`; unset: no traces. "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` is read where it is unset",
    )
    ratio: float = Field(default=1.0, ge=0, le=1, description="share of requests that are traced, told by their ids")
    queue_max: int = Field(default=8_192, ge=1, description="spans that wait to be sent; more are dropped and counted")
    timeout_s: float = Field(default=10.0, gt=0, le=60)

    @field_validator("endpoint")
    @classmethod
    def _http(cls, endpoint: str | None) -> str | None:
        if not endpoint:
            return None
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError("it must be http://host:port or https://host:port")
        return endpoint.rstrip("/")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place in its trace; ids are lower-case hex."""

    trace_id: str
    span_id: str
    parent_id: str | None = None

    @property
    def traceparent(self) -> str:
        """W3C Trace Context of what comes after this span. Only what is sampled has one."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED:02x}"


@dataclass(frozen=True, slots=True)
class Span:
    """A step that is over. `moments` are instants within it, by name."""

    context: TraceContext
    name: str
    kind: Literal["server", "consumer"]
    started: datetime
    ended: datetime
    attributes: Mapping[str, str | int | bool] = field(default_factory=dict)
    moments: tuple[tuple[str, datetime], ...] = ()
    failed: bool = False


Export = Callable[[Sequence[Span]], bool]
"""Sends spans and says whether they arrived. Called on a thread of its own; it may block."""


class Traces:
    """`add` never blocks. `close` sends what is left, bounded in time."""

    def __init__(self, ratio: float, queue_max: int, export: Export) -> None:
        self._bound = int(ratio * (1 << 64))
        self._queue_max = queue_max
        self._export = export
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = False
        self.sent = self.dropped = self.failed = 0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def of_request(self, request_id: str) -> TraceContext | None:
        """The first span of a request's trace; None where it is not sampled."""
        found = _REQUEST.fullmatch(request_id)
        return self._root(found[1], request_id) if found else None

    def of_event(self, event_id: str) -> TraceContext | None:
        """The first span of a trace that begins with an event of ours; None where it is not sampled."""
        return self._root(hashlib.sha256(event_id.encode()).hexdigest()[:32], event_id)

    def _root(self, trace_id: str, id: str) -> TraceContext | None:
        if trace_id == _NO_TRACE or int(trace_id[16:], 16) >= self._bound:
            return None
        return TraceContext(trace_id, _span_id("root", id))

    @staticmethod
    def child(traceparent: str | None, step: str, id: str) -> TraceContext | None:
        """The span of `step` for the event `id`, whose `traceparent` is given; None where that is not sampled."""
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if found is None or not int(traceparent[-2:], 16) & _SAMPLED:  # type: ignore[index]  # found, so not None
            return None
        return TraceContext(found[1], _span_id(step, id), found[2])

    def add(self, span: Span) -> None:
        if len(self._queue) >= self._queue_max:
            self.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) >= SPANS_PER_EXPORT_MAX:
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def collect(self) -> Iterator[Metric]:
        """For a registry of /metrics."""
        family = CounterMetricFamily("hydra_trace_spans", "Spans by what became of them", labels=("result",))
        for result, count in (("sent", self.sent), ("dropped", self.dropped), ("failed", self.failed)):
            family.add_metric((result,), count)
        yield family

    def _run(self) -> None:
        told_at = float("-inf")
        while not (self._closing and not self._queue):
            self._wake.wait(EXPORT_EVERY_S)
            self._wake.clear()
            while self._queue:
                spans = [self._queue.popleft() for _ in range(min(len(self._queue), SPANS_PER_EXPORT_MAX))]
                if self._export(spans):
                    self.sent += len(spans)
                    continue
                self.failed += len(spans)
                if time.monotonic() - told_at > 60:
                    told_at = time.monotonic()
                    logger.warning("traces are not taken", extra={"failed": self.failed, "dropped": self.dropped})


def _span_id(step: str, id: str) -> str:
    return hashlib.sha256(f"{step}/{id}".encode()).hexdigest()[:16]


def traces_of(process: str, settings: TracingSettings | None = None) -> Traces | None:
    """What `process` sends its spans by; None, and OpenTelemetry is not even loaded, where no endpoint is set.

    Raises Misconfigured for a setting that cannot be.
    """
    if settings is None:
        try:
            settings = TracingSettings()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = str(first["loc"][0]).upper().removeprefix("HYDRA_TRACES_")
            name = name if name.startswith("OTEL_") else f"HYDRA_TRACES_{name}"
            raise Misconfigured(f"the setting {name} is wrong: {first['msg']}") from error
    if settings.endpoint is None:
        return None
    from adapters.otlp_export import OtlpExport

    return Traces(settings.ratio, settings.queue_max, OtlpExport(process, settings.endpoint, settings.timeout_s))
