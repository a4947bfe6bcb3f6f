"""Starts a simulated engine: `python -m services.worker.simulated_engine --port PORT [options]`."""

from __future__ import annotations

import sys

import uvloop

from services.worker.simulated_engine.options import parse
from services.worker.simulated_engine.server import run

if __name__ == "__main__":
    uvloop.run(run(parse(sys.argv[1:])))
