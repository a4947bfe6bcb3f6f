"""The embedded ClickHouse for tests: a real process on a free port with a folder of its own."""

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

from adapters import secret_files
from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

READY_WITHIN_S = 120
ROOT = Path(__file__).resolve().parent.parent.parent


class ClickHouseProcess:
    """`start`, `stop` (SIGTERM) and `kill` (SIGKILL) may follow each other; the folder and the port stay."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        secret_files.make_missing(self.secrets_dir)
        self.admin_password = secret_files.read(self.secrets_dir, secret_files.CLICKHOUSE_ADMIN_PASSWORD)
        self.analyst_password = secret_files.read(self.secrets_dir, secret_files.ANALYST_PASSWORD)
        self.billing_password = secret_files.read(self.secrets_dir, secret_files.BILLING_PASSWORD)

    @property
    def secrets_dir(self) -> Path:
        return self.home / "secrets"

    @property
    def admin_password_file(self) -> Path:
        return self.secrets_dir / secret_files.CLICKHOUSE_ADMIN_PASSWORD

    @property
    def log_file(self) -> Path:
        return self.home / "clickhouse.log"

    def spawn(self) -> subprocess.Popen[bytes]:
        """The process as it is, perhaps not ready, perhaps about to say why it cannot start."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
        environment |= {"HYDRA_HOME": str(self.home), "HYDRA_CLICKHOUSE_PORT": str(self.port)}
        environment |= {f"HYDRA_CLICKHOUSE_{key.upper()}": value for key, value in self._settings.items()}
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "services.clickhouse"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    def start(self) -> None:
        self._process = self.spawn()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ClickHouse did not start: {self.log_file.read_text()[-2000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> int:
        """The exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(60)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(60)


@contextmanager
def running_clickhouse(home: Path, **settings: str) -> Iterator[ClickHouseProcess]:
    """A server that is ready, gone at the end whatever happened. `settings` without HYDRA_CLICKHOUSE_."""
    server = ClickHouseProcess(home, **settings)
    server.start()
    try:
        yield server
    finally:
        # Nobody reads this folder again: a clean shutdown would only take time.
        server.kill()
