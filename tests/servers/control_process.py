"""A control service as it runs for real: its own process, its own folder, on free ports."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from adapters import secret_files
from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 90


@dataclass
class ControlProcess:
    """`url` is where it serves; `home` is its state folder; `process` may be killed."""

    url: str
    home: Path
    process: "subprocess.Popen[bytes]"

    @property
    def operator(self) -> dict[str, str]:
        """The operator's header."""
        token = secret_files.read(self.home / "secrets", secret_files.OPERATOR_TOKEN)
        return {"Authorization": f"Bearer {token}"}

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()


@contextmanager
def running_control(
    service: str, home: Path, kafka: str, *, wait_for: str = "ready", **settings: str
) -> Iterator[ControlProcess]:
    """`python -m services.<service>`, `ready` or only `live`. `settings` are further environment variables."""
    home.mkdir(parents=True, exist_ok=True)
    secret_files.make_missing(home / "secrets")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")} | {
        "HYDRA_HOME": str(home),
        "HYDRA_KAFKA_BOOTSTRAP": kafka,
        f"HYDRA_{service.upper()}_PORT": str(port),
        **settings,
    }
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            cwd=ROOT,
            env=environment,
            stderr=log,
            preexec_fn=end_with_parent,
        )
    running = ControlProcess(f"http://127.0.0.1:{port}", home, process)
    try:
        _wait_until(running, wait_for)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(running: ControlProcess, state: str) -> None:
    deadline, seen = time.monotonic() + START_DEADLINE_S, "no answer"
    while time.monotonic() < deadline:
        assert running.process.poll() is None, running.log
        try:
            answer = httpx.get(f"{running.url}/health/{state}", timeout=5)
            seen = answer.text
            if answer.status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not {state}: {seen}\n{running.log}")
