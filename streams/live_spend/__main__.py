"""`python -m streams.live_spend`: settings, wire, serve."""

from __future__ import annotations

import sys

from streams.live_spend.settings import LiveSpendSettings
from streams.live_spend.stream import LiveSpendStream
from streams.stream_process import run_stream

if __name__ == "__main__":
    sys.exit(run_stream("live_spend", LiveSpendSettings, LiveSpendStream))
