"""A simulated engine of a test's own, with faults and a ledger."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[4]
READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class SimulatedEngine:
    url: str
    ledger: Path
    process: "subprocess.Popen[bytes]"

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []

    def entry(self, rid: str) -> dict[str, Any]:
        """The only line of this request, once it is there."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not (found := [line for line in self.entries() if line["rid"] == rid]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(found) == 1
        return found[0]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SimulatedEngine]:
    port = free_port()
    ledger = tmp_path / "ledger.jsonl"
    options = [f"--port={port}", f"--ledger={ledger}", "--faults", "--enable-cache-report", "--load-seconds=0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "services.worker.simulated_engine", *options], cwd=ROOT, preexec_fn=end_with_parent
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield SimulatedEngine(url, ledger, process)
    finally:
        process.kill()
        process.wait()
