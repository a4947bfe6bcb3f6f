"""A whole platform for tests: `hydra up` on free ports with a folder of its own, used through its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from runner.processes import PROCESSES
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
UP_WITHIN_S = 300
DOWN_WITHIN_S = 180


def wait_until(happened: Callable[[], Any], what: str, deadline_s: float = 90.0, pause_s: float = 0.2) -> Any:
    """What `happened` returned once it was true. Fails the test, naming `what`, at the deadline."""
    end = time.monotonic() + deadline_s
    while not (result := happened()):
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        time.sleep(pause_s)
    return result


class Platform:
    """One platform at `home`. `environment` holds every setting that differs from the defaults."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.ports = {process.name: free_port() for process in PROCESSES if process.port is not None}
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
        self.environment |= {f"HYDRA_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        self.environment |= {"HYDRA_HOME": str(home), "HYDRA_KAFKA_CONTROLLER_PORT": str(free_port())}
        self.environment |= settings

    def url(self, name: str) -> str:
        """The address of one process."""
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address."""
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def operator_token(self) -> str:
        return (self.home / "secrets" / "operator_token").read_text().strip()

    def run(self, *words: str, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """`hydra WORDS`; with `check` a failure fails the test with what the command said."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"hydra {' '.join(words)}: {done.returncode} {done.stderr}{done.stdout}"
        )
        return done

    def hydra(self, *words: str) -> Any:
        """`hydra WORDS --json`, decoded."""
        return json.loads(self.run(*words, "--json").stdout)

    def start(self) -> None:
        self.run("up", "--detach", timeout_s=UP_WITHIN_S)
        wait_until(lambda: self.run("status", check=False).returncode == 0, "every wanted instance is ready")

    def stop(self) -> None:
        self.run("down", check=False, timeout_s=DOWN_WITHIN_S)

    def new_account(self, name: str, **options: str) -> str:
        """An account's id; options as `spend_limit="1"`."""
        words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
        account: str = self.hydra("account", "create", name, *words)["id"]
        return account

    def new_key(self, account: str, *scopes: str) -> str:
        """A key that the gateway takes already."""
        words = [word for scope in scopes for word in ("--scope", scope)]
        key: str = self.hydra("key", "create", "--account", account, *words)["key"]
        self.await_key(key)
        return key

    def await_key(self, key: str) -> None:
        """Wait until the gateway knows the key (whatever it may do with it)."""

        def known() -> bool:
            answer = httpx.get(self.url("gateway") + "/v1/models", headers={"Authorization": f"Bearer {key}"})
            return answer.status_code != 401

        wait_until(known, "the gateway knows the new key")

    def service(self, name: str, account: str) -> dict[str, Any]:
        """`hydra service show`."""
        shown: dict[str, Any] = self.hydra("service", "show", name, "--account", account)
        return shown

    def await_ready(self, name: str, account: str, instances: int, deadline_s: float = 120.0) -> dict[str, Any]:
        """Wait until a service has exactly so many ready instances; returns it."""

        def ready() -> dict[str, Any] | None:
            shown = self.service(name, account)
            return shown if shown["ready"] == instances == shown["replicas"] else None

        shown: dict[str, Any] = wait_until(ready, f"{name} has {instances} ready instances", deadline_s, 0.5)
        return shown


@contextmanager
def running_platform(home: Path, **settings: str) -> Iterator[Platform]:
    """A platform that is ready, down at the end whatever happened."""
    platform = Platform(home, **settings)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()
