"""The engine's counters under SGLang's names, starting at 0 with the process."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenCounts:
    """Token totals of finished sequences, by whether they were streamed."""

    requests: int = 0
    prompt: int = 0
    generation: int = 0
    cached: int = 0


@dataclass(slots=True)
class Counters:
    """What /metrics shows."""

    streamed: TokenCounts = field(default_factory=TokenCounts)
    unstreamed: TokenCounts = field(default_factory=TokenCounts)
    aborted: int = 0

    def render(self, model: str, running: int, waiting: int) -> bytes:
        """Prometheus text; `model_name` and `is_streaming` as SGLang labels them."""
        name = model.replace("\\", "\\\\").replace('"', '\\"')
        common = f'engine_type="simulated",model_name="{name}",priority=""'
        lines: list[str] = []

        def family(metric: str, kind: str, text: str, rows: list[tuple[str, int]]) -> None:
            lines.extend((f"# HELP sglang:{metric} {text}", f"# TYPE sglang:{metric} {kind}"))
            lines.extend(f"sglang:{metric}{{{labels}}} {float(value)}" for labels, value in rows)

        by_stream = [(f'is_streaming="{flag}",{common}', counts) for flag, counts in self._by_stream()]
        family("prompt_tokens_total", "counter", "Prefill tokens.", [(at, c.prompt) for at, c in by_stream])
        family("generation_tokens_total", "counter", "Generated tokens.", [(at, c.generation) for at, c in by_stream])
        family("num_requests_total", "counter", "Requests processed.", [(at, c.requests) for at, c in by_stream])
        cached = sum(counts.cached for _, counts in self._by_stream())
        family("cached_tokens_total", "counter", "Cached tokens.", [(f'cache_source="device",{common}', cached)])
        family("num_aborted_requests_total", "counter", "Aborted requests.", [(common, self.aborted)])
        family("num_running_reqs", "gauge", "Running requests.", [(common, running)])
        family("num_queue_reqs", "gauge", "Waiting requests.", [(common, waiting)])
        return ("\n".join(lines) + "\n").encode()

    def _by_stream(self) -> tuple[tuple[str, TokenCounts], ...]:
        return ("false", self.unstreamed), ("true", self.streamed)
