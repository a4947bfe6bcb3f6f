"""The start options of the simulated engine; names that SGLang has too mean the same here."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What one engine process was started with.

    `tokens_per_second` is the pace of each sequence, 0 for as fast as it goes. `load_seconds` pass before the port
    opens, as while a model loads. `ledger` names a file that gets one JSON line per finished request: counts, never
    text."""

    host: str
    port: int
    api_key: str | None
    served_model_name: str
    context_length: int
    max_running_requests: int
    max_queued_requests: int | None
    enable_cache_report: bool
    cache_tokens: int
    tokens_per_second: float
    load_seconds: float
    ledger: Path | None
    faults: bool


def parse(argv: list[str]) -> Options:
    """Options from a command line; exits with argparse's message where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m services.worker.simulated_engine", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", help="guards every path but the health checks and /metrics")
    parser.add_argument("--served-model-name", default="simulated")
    parser.add_argument("--context-length", type=int, default=32768, help="tokens of prompt and answer together")
    parser.add_argument("--max-running-requests", type=int, default=256, help="sequences that run at once")
    parser.add_argument("--max-queued-requests", type=int, help="requests that may wait; one more gets 503")
    parser.add_argument("--enable-cache-report", action="store_true", help="report cached prompt tokens in usage")
    parser.add_argument("--cache-tokens", type=int, default=262144, help="size of the prefix cache")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="pace of each sequence; 0: unpaced")
    parser.add_argument("--load-seconds", type=float, default=0.0, help="pause before the port opens")
    parser.add_argument("--ledger", type=Path, help="append one JSON line of counts per finished request")
    parser.add_argument("--faults", action="store_true", help="open POST /simulate, which makes requests fail")
    return Options(**vars(parser.parse_args(argv)))
