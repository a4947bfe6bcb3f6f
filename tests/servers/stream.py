"""A stream processor for tests: a real process with health on a free port."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

READY_WITHIN_S = 120
ROOT = Path(__file__).resolve().parent.parent.parent


class StreamProcess:
    """`python -m streams.<name>`. `start`, `stop` (SIGTERM) and `kill` (SIGKILL) may follow each other."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self.log_file = folder / f"{name}-{self.port}.log"
        prefix = f"HYDRA_{name.upper()}_"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
        self._environment = inherited | {f"{prefix}PORT": str(self.port)} | environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start without waiting, perhaps to see why it does not."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"streams.{self.name}"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        return self._process

    def start(self) -> None:
        self.spawn()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {self.log_file.read_text()[-3000:]}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str) -> float:
        """The sum of a metric's samples, over all labels; 0 while it has none or does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0] == name)

    def has_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def wait(self) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        return self._process.wait(READY_WITHIN_S)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(60)


@contextmanager
def running_stream(name: str, folder: Path, environment: dict[str, str]) -> Iterator[StreamProcess]:
    """A stream that is ready, gone at the end whatever happened."""
    process = StreamProcess(name, folder, environment)
    try:
        process.start()
        yield process
    finally:
        process.kill()
