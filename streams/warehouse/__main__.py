"""`python -m streams.warehouse`: settings, wire, serve."""

from __future__ import annotations

import sys

from streams.stream_process import run_stream
from streams.warehouse.settings import WarehouseSettings
from streams.warehouse.stream import WarehouseStream

if __name__ == "__main__":
    sys.exit(run_stream("warehouse", WarehouseSettings, WarehouseStream))
