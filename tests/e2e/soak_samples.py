"""What a platform's processes hold, every few seconds: memory, open files, threads, consumer lag, spool."""

from __future__ import annotations

import contextlib
import csv
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec

from runner.status import PlatformStatus
from tests.e2e.flatness import Bound, Sample, chart, verdict
from tests.servers.platform import Platform

Series = dict[tuple[str, str], list[Sample]]
"""The samples of (process, measure)."""

MIB = 1024 * 1024
BOUNDS: dict[str, Bound] = {
    # A collector that looks for cycles after 50,000 objects lets a few MiB of them come and go.
    "memory_mib": Bound(share=0.03, least=6),
    "open_files": Bound(share=0.05, least=8),
    "threads": Bound(share=0.05, least=4),
    "lag_messages": Bound(share=0.25, least=200),
    "spool_mib": Bound(share=0.25, least=4),
}
# Both keep tables or logs that grow with what was written, and fill caches that are bounded by settings of their own.
STORES: dict[str, Bound] = {
    "memory_mib": Bound(share=0.15, least=96),
    # Parts of tables and segments of logs, before they are merged or rolled; the first minutes open most of them.
    "open_files": Bound(share=0.25, least=256),
    "threads": Bound(share=0.10, least=16),
}
_LAG = re.compile(r"^hydra_stream_lag_messages\{[^}]*\} (\S+)$", re.MULTILINE)


class Sampler:
    """`take` adds one sample of everything. A process that was started anew fails the test: nothing here may die."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._began = time.monotonic()
        self._pids = {process.name: process.pid for process in self._status().processes if process.pid is not None}
        self.series: Series = defaultdict(list)

    def _status(self) -> PlatformStatus:
        written = (self._platform.home / "run" / "platform.json").read_bytes()
        return msgspec.json.decode(written, type=PlatformStatus)

    def take(self) -> None:
        at = time.monotonic() - self._began
        for name, pid in self._pids.items():
            for measure, value in _of_process(pid):
                self.series[name, measure].append((at, value))
        for name in ("token_charges", "instance_charges", "warehouse", "live_spend"):
            found = _LAG.search(httpx.get(f"{self._platform.url(name)}/metrics", timeout=30).text)
            if found:
                self.series[name, "lag_messages"].append((at, float(found[1])))
        spools = self._platform.home / "gateway" / "spools"
        self.series["gateway", "spool_mib"].append((at, _size(spools) / MIB))

    def restarted(self) -> list[str]:
        """Processes that are not the ones of the beginning."""
        now = {process.name: process.pid for process in self._status().processes}
        return [name for name, pid in self._pids.items() if now.get(name) != pid]


def _of_process(pid: int) -> Iterator[tuple[str, float]]:
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, f"process {pid} is gone"
    yield "memory_mib", int(found[1]) / 1024
    yield "threads", float(len(list((folder / "task").iterdir())))
    yield "open_files", float(len(list((folder / "fd").iterdir())))


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a segment that was published and removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def write_csv(series: Series, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("process", "measure", "seconds", "value"))
        for (process, measure), samples in sorted(series.items()):
            writer.writerows((process, measure, f"{at:.0f}", f"{value:.2f}") for at, value in samples)


def report(series: Series) -> tuple[str, list[str]]:
    """A table with a line drawn for each measure, and what was not flat."""
    lines = [f"{'process':18}{'measure':14}{'middle':>10}{'last':>10}{'allowed':>9}  from beginning to end"]
    grown = []
    for (process, measure), samples in sorted(series.items()):
        bound = STORES.get(measure) if process in ("kafka", "clickhouse") else None
        judged = verdict(samples, bound or BOUNDS[measure])
        sign = " " if judged.flat else "!"
        lines.append(
            f"{process:18}{measure:14}{judged.middle:10.1f}{judged.last:10.1f}{judged.allowed:9.1f} {sign}"
            f"{chart(samples)}"
        )
        if not judged.flat:
            grown.append(f"{process}: {measure} grew from {judged.middle:.1f} to {judged.last:.1f}")
    return "\n".join(lines), grown
