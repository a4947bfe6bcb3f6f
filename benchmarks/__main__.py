"""`make bench`: runs the measures, prints them, and appends them to benchmarks/history.jsonl.

python -m benchmarks [gateway] [streams] [answer_to_charge] [footprint] [promises]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import answer_to_charge, footprint, gateway, promises, streams

MEASURES: dict[str, Callable[[], Coroutine[Any, Any, dict[str, float]]]] = {
    "gateway": gateway.measure,
    "streams": streams.measure,
    "answer_to_charge": answer_to_charge.measure,
    "footprint": footprint.measure,
    "promises": promises.measure,
}
HISTORY = Path(__file__).parent / "history.jsonl"


def main() -> int:
    """Exit code 0 when every measure ran, 1 where one could not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    failed = False
    for name in parser.parse_args().measures or list(MEASURES):
        print(f"{name} ...", flush=True)
        try:
            figures = uvloop.run(MEASURES[name]())
        except RuntimeError as error:
            print(f"  could not run: {error}")
            failed = True
            continue
        for figure, value in figures.items():
            print(f"  {figure:48} {value:12.3f}")
        _keep(name, figures)
    return 1 if failed else 0


def _keep(name: str, figures: dict[str, float]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HISTORY.parent, capture_output=True, text=True, check=False
    )
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "measure": name,
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 1),
        **{figure: round(value, 4) for figure, value in figures.items()},
    }
    with HISTORY.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
