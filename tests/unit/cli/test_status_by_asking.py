"""`hydra status` where no platform was started on this machine: each process is asked at the address that is set."""

from __future__ import annotations

import json
import os
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adapters import secret_files
from adapters.clickhouse.found_access import FoundAccess, keep
from runner.processes import PROCESSES
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 120.0
ASKED = [process for process in PROCESSES if process.probe != "exit"]
READY = {"status": "ready", "reason": ""}


@dataclass
class Answers:
    """What the processes say: by name the status and the body of readiness; what lifecycle lists."""

    of: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    services: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Elsewhere:
    """A platform that something else has started: addresses that answer."""

    home: Path
    answers: Answers
    environment: dict[str, str]

    def status(self, *words: str) -> subprocess.CompletedProcess[str]:
        return status(self.environment | {"HYDRA_HOME": str(self.home)}, *words)


def status(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")} | settings
    command = [sys.executable, "-m", "cli", "status", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


class Broker(socketserver.BaseRequestHandler):
    """Lists one broker to whoever asks for metadata."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(struct.pack(">iiii", 12, 1, 0, 1))


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def process_named(name: str, answers: Answers, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    class Door(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            if self.path.startswith("/v1/services"):
                self._send(200, {"data": answers.services, "next_cursor": None})
            else:
                self._send(*answers.of.get(name, (200, READY)))

        def _send(self, code: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return ThreadingHTTPServer((host, 0), Door)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    secret_files.make_missing(tmp_path / "secrets")
    answers, environment = Answers(), {}
    with ExitStack() as stack:
        for process in ASKED:
            if process.probe == "kafka":
                broker = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Broker)
                stack.enter_context(serving(broker))
                environment["HYDRA_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{broker.server_address[1]}"
                continue
            server = process_named(process.name, answers)
            stack.enter_context(serving(server))
            environment[f"HYDRA_{process.name.upper()}_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
        yield Elsewhere(tmp_path, answers, environment)


def test_all_are_ready_and_it_says_what_holds_the_analyst(elsewhere: Elsewhere) -> None:
    keep(elsewhere.home, FoundAccess(analyst="analyst: SQL user on the server", billing_user="billing"), "p")
    elsewhere.answers.services = [{"access_path": "public/a", "status": "running", "ready": 2, "replicas": 2}]
    said = elsewhere.status("--json")
    assert said.returncode == 0, said
    found = json.loads(said.stdout)
    assert found["ready"] and found["analyst"] == "analyst: SQL user on the server"
    assert [row["name"] for row in found["processes"]] == [process.name for process in ASKED]
    assert {row["state"] for row in found["processes"]} == {"ready"}
    for_people = elsewhere.status()
    assert for_people.returncode == 0 and "analyst: SQL user on the server" in for_people.stdout


def _not_ready(elsewhere: Elsewhere) -> str:
    elsewhere.answers.of["warehouse"] = (503, {"status": "not_ready", "reason": "ClickHouse is full"})
    return "warehouse not_ready ClickHouse is full"


def _away(elsewhere: Elsewhere) -> str:
    elsewhere.environment["HYDRA_GATEWAY_URL"] = f"http://127.0.0.1:{free_port()}"
    return "gateway away does not answer"


def _no_kafka(elsewhere: Elsewhere) -> str:
    elsewhere.environment["HYDRA_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{free_port()}"
    return "kafka away does not answer"


def _no_name(elsewhere: Elsewhere) -> str:
    elsewhere.environment["HYDRA_BILLING_URL"] = "http://no-such-name.invalid:8003"
    return "billing away its name leads to no address"


@pytest.mark.parametrize("harm", [_not_ready, _away, _no_kafka, _no_name])
def test_what_is_wrong_is_told_with_its_reason(elsewhere: Elsewhere, harm: Callable[[Elsewhere], str]) -> None:
    expected = harm(elsewhere)
    said = elsewhere.status("--json")
    assert said.returncode == 1, said
    wrong = [row for row in json.loads(said.stdout)["processes"] if row["state"] != "ready"]
    assert [f"{row['name']} {row['state']} {row['reason']}" for row in wrong] == [expected]


def test_an_instance_that_is_wanted_and_not_ready_is_not_in_order(elsewhere: Elsewhere) -> None:
    elsewhere.answers.services = [{"access_path": "public/a", "status": "running", "ready": 1, "replicas": 2}]
    said = elsewhere.status("--json")
    assert said.returncode == 1 and not json.loads(said.stdout)["ready"]


def test_of_a_process_that_runs_more_than_once_each_is_asked(elsewhere: Elsewhere) -> None:
    second = process_named("second", elsewhere.answers)
    elsewhere.answers.of["second"] = (503, {"status": "not_ready", "reason": "loads"})
    first = elsewhere.environment["HYDRA_WORKER_URL"]
    unknown = "http://no-such-name.invalid:8021"
    with serving(second):
        url = f"http://127.0.0.1:{second.server_address[1]}"
        elsewhere.environment["HYDRA_WORKER_URL"] = f"{first},{url},{unknown}"
        said = elsewhere.status("--json")
    assert said.returncode == 1
    nodes = [row for row in json.loads(said.stdout)["processes"] if row["name"] == "worker"]
    assert [(row["address"], row["state"], row["reason"]) for row in nodes] == [
        (first, "ready", ""),
        (url, "not_ready", "loads"),
    ]


def test_a_note_of_a_process_that_is_ready_is_shown(elsewhere: Elsewhere) -> None:
    elsewhere.answers.of["billing"] = (200, READY | {"note": "reads as the owner"})
    said = elsewhere.status()
    assert said.returncode == 0 and "reads as the owner" in said.stdout


def test_where_nothing_was_started_and_no_address_is_set_it_says_so(tmp_path: Path) -> None:
    # Nobody listens at these ports, so that a platform of this machine is not found.
    ports = {process.port_setting: str(free_port()) for process in ASKED}
    said = status(ports | {"HYDRA_HOME": str(tmp_path)})
    assert said.returncode == 1
    assert f"no platform was ever started at {tmp_path}" in said.stderr
