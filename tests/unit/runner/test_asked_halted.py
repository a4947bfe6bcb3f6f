"""A container that stays for its halted process knows no reason: what the process has noted in Kafka says it."""

from __future__ import annotations

import asyncio
import json
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from adapters.errors import Unavailable
from cli.__main__ import app
from cli.commands import platform
from runner.asked_status import AskedProcess, NotedOf, ask_all, with_stop
from runner.readiness import REASON_LENGTH_MAX
from runner.settings import RunnerSettings
from schemas.stops import Gap, Reread, StopNoted
from tests.servers.ports import free_port

PLACEHOLDER = "token_charges stopped on purpose; its log says why and what to do"
HALTED = AskedProcess("token_charges", "http://t:8011", ready=False, answered=True, reason=PLACEHOLDER, halted=True)
GAPS = tuple(Gap("hydra.usage", partition, 0, 10**14) for partition in range(24))
LONG = "hydra.usage has lost messages that were not read: " + "; ".join(f"partition {n}" for n in range(100))


def stop(what: str = "stopped", **fields: object) -> StopNoted:
    said = {"process": "token_charges", "at": datetime(2026, 11, 1, tzinfo=UTC), "reason": LONG, "gaps": GAPS}
    return StopNoted(what=what, **said | fields)  # type: ignore[arg-type]


def test_the_whole_reason_and_the_whole_command_are_told() -> None:
    assert len(LONG) > REASON_LENGTH_MAX
    told = with_stop(HALTED, [stop(reason="an older one"), stop("went_on"), stop()])
    assert told.reason == LONG
    assert told.to_go_on.startswith("hydra resume token_charges --gap hydra.usage/0:0-")
    assert told.to_go_on.count("--gap ") == len(GAPS)


def test_a_log_that_is_whole_is_read_again() -> None:
    told = with_stop(HALTED, [stop(gaps=(), reread=(Reread("hydra.usage", 0),))])
    assert told.to_go_on == "hydra resume token_charges --from-start"


def test_once_it_is_accepted_only_a_start_is_missing() -> None:
    told = with_stop(HALTED, [stop(), stop("accepted", reason="disk lost", by="ada")])
    assert told.to_go_on == "" and told.reason == f"{LONG}; accepted by ada, so it goes on once it is started again"


@pytest.mark.parametrize("noted", [[], [stop(), stop("went_on")]])
def test_a_stop_that_was_not_noted_keeps_its_own_word(noted: list[StopNoted]) -> None:
    assert with_stop(HALTED, noted) == HALTED


class Broker(socketserver.BaseRequestHandler):
    """Lists one broker to whoever asks for metadata, and knows nothing else of Kafka."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(struct.pack(">iiii", 12, 1, 0, 1))


class Halted(BaseHTTPRequestHandler):
    """What `runner.container` answers in the place of a process."""

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        content = json.dumps({"status": "halted", "reason": PLACEHOLDER}).encode()
        self.send_response(503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(server: socketserver.TCPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def one_halted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of a platform of which Kafka answers, and in the place of one process its container."""
    with ExitStack() as stack:
        kafka = stack.enter_context(served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Broker)))
        process = stack.enter_context(served(ThreadingHTTPServer(("127.0.0.1", 0), Halted)))
        for name in ("GATEWAY", "ACCOUNTS", "LIFECYCLE", "BILLING", "WORKER", "INSTANCE_CHARGES", "WAREHOUSE"):
            monkeypatch.setenv(f"HYDRA_{name}_URL", f"http://127.0.0.1:{free_port()}")
        for name in ("LIVE_SPEND", "CLICKHOUSE"):
            monkeypatch.setenv(f"HYDRA_{name}_URL", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("HYDRA_TOKEN_CHARGES_URL", f"http://{process}")
        monkeypatch.setenv("HYDRA_KAFKA_BOOTSTRAP", kafka)
        yield


def halted_of(noted_of: NotedOf) -> list[AskedProcess]:
    return [process for process in asyncio.run(ask_all(RunnerSettings(), noted_of)) if process.halted]


@pytest.mark.usefixtures("one_halted")
def test_who_is_asked_and_answers_as_halted_is_looked_up_and_nobody_else() -> None:
    looked_up: list[str] = []

    async def noted_of(name: str) -> Sequence[StopNoted]:
        looked_up.append(name)
        return [stop()]

    (found,) = halted_of(noted_of)
    assert looked_up == ["token_charges"] and (found.ready, found.reason) == (False, LONG)


@pytest.mark.usefixtures("one_halted")
def test_where_kafka_does_not_tell_it_is_halted_all_the_same() -> None:
    async def noted_of(name: str) -> Sequence[StopNoted]:
        raise Unavailable("hydra.stops cannot be read")

    (found,) = halted_of(noted_of)
    assert (found.ready, found.reason, found.to_go_on) == (False, PLACEHOLDER, "")


@pytest.mark.usefixtures("one_halted")
def test_the_command_shows_state_reason_and_what_to_type_uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(settings: RunnerSettings) -> tuple[AskedProcess, ...]:
        return (with_stop(HALTED, [stop()]),)

    monkeypatch.setattr(platform, "ask_all", asked)
    monkeypatch.setenv("HYDRA_HOME", "/nowhere")
    for_people = CliRunner().invoke(app, ["status"])
    told = with_stop(HALTED, [stop()])
    assert for_people.exit_code == 1
    assert "halted" in for_people.stdout and f"token_charges goes on by: {told.to_go_on}\n" in for_people.stdout
    for_scripts = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    (row,) = for_scripts["processes"]
    assert (row["state"], row["reason"], row["to_go_on"]) == ("halted", LONG, told.to_go_on)
