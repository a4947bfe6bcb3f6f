"""A container's first process: it passes signals and exit codes on, and a stop on purpose is not a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from runner import container_place
from runner.container_door import CALLERS_MAX
from runner.container_place import NodeClaim, addressed, with_node_folder
from runner.processes import PROCESSES
from runner.readiness import Answer, Readiness
from runner.settings import RunnerSettings
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 60.0
BY_NAME = {process.name: process for process in PROCESSES}

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from runner import container
from runner.processes import PROCESSES
container.HALTED = Path(sys.argv[1])
port = int(sys.argv[2]) if sys.argv[2:] else None
container.PROCESSES = tuple(replace(each, module="played", port=port) for each in PROCESSES if each.name == "topics")
sys.exit(container.main(["topics"]))
"""
"""The step `topics`, played by the module `played`: it needs no folder, and an address only where one is named."""


@contextmanager
def container(folder: Path, played: str, port: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A first process whose one child runs this code."""
    (folder / "played.py").write_text(played)
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder / "halted"), *([] if port is None else [str(port)])],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    ("played", "code"),
    [("", 0), ("raise SystemExit(1)", 1), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_its_exit_code_is_the_processs(tmp_path: Path, played: str, code: int) -> None:
    with container(tmp_path, played) as running:
        assert running.wait(WITHIN_S) == code


def test_a_stop_is_handed_on_and_waited_for(tmp_path: Path) -> None:
    played = """
import signal, sys, time
def stop(*_):
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("runs", flush=True)
while True: time.sleep(0.05)
"""
    with container(tmp_path, played) as running:
        assert running.stdout is not None and running.stdout.readline() == "runs\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(WITHIN_S) == 0
        assert running.stdout.readline() == "drained\n"


def test_after_a_stop_on_purpose_it_stays_and_says_so_until_it_is_stopped(tmp_path: Path) -> None:
    with container(tmp_path, "raise SystemExit(78)") as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        assert "stopped on purpose" in said and "docker compose restart topics" in said
        assert (tmp_path / "halted").exists() and running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(WITHIN_S) == 78


def test_after_a_stop_on_purpose_it_answers_in_the_processs_place(tmp_path: Path) -> None:
    port = free_port()
    with container(tmp_path, "raise SystemExit(78)", port) as running:
        assert running.stderr is not None and "stopped on purpose" in running.stderr.readline()
        # A caller who sends nothing holds it up for a moment only.
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S):
            answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=WITHIN_S)
        assert answer.status_code == 503
        assert answer.json()["status"] == "halted"
        assert answer.json()["reason"].endswith("its log says why and what to do: docker compose logs topics")
        running.send_signal(signal.SIGTERM)
        assert running.wait(WITHIN_S) == 78


def asked_as_status_asks(port: int) -> Answer:
    async def ask() -> Answer:
        readiness = Readiness(RunnerSettings())
        try:
            return await readiness.ask_at(BY_NAME["gateway"], f"http://127.0.0.1:{port}")
        finally:
            await readiness.close()

    return asyncio.run(ask())


@contextmanager
def dripping_caller(port: int) -> Iterator[threading.Thread]:
    """One that never ends its request, and never lets as much time pass between two bytes as it has for all of them.
    The thread ends when it is sent away."""
    ended = threading.Event()

    def drip() -> None:
        try:
            while not ended.wait(0.2):
                caller.sendall(b"x")
        except OSError:
            return

    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as caller:
        caller.sendall(b"GET /health/ready HTTP/1.1\r\n")
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            ended.set()
            thread.join()


def test_a_caller_who_never_ends_its_request_holds_up_neither_another_nor_the_end(tmp_path: Path) -> None:
    port = free_port()
    with container(tmp_path, "raise SystemExit(78)", port) as running:
        assert running.stderr is not None and "stopped on purpose" in running.stderr.readline()
        with dripping_caller(port) as caller:
            answer = asked_as_status_asks(port)
            assert answer.halted and answer.reason.endswith("docker compose logs topics")
            caller.join(WITHIN_S)
            assert not caller.is_alive(), "it is sent away"
        with dripping_caller(port):
            assert asked_as_status_asks(port).halted
            running.send_signal(signal.SIGTERM)
            assert running.wait(WITHIN_S) == 78
            assert running.stderr.read() == ""


def test_however_many_callers_say_nothing_the_next_one_is_answered(tmp_path: Path) -> None:
    port = free_port()
    with container(tmp_path, "raise SystemExit(78)", port) as running, ExitStack() as callers:
        assert running.stderr is not None and "stopped on purpose" in running.stderr.readline()
        for _ in range(CALLERS_MAX + 10):
            callers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S))
        assert asked_as_status_asks(port).halted


def test_a_request_without_an_end_is_not_kept(tmp_path: Path) -> None:
    port = free_port()
    with container(tmp_path, "raise SystemExit(78)", port) as running:
        assert running.stderr is not None and "stopped on purpose" in running.stderr.readline()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as caller,
            pytest.raises((ConnectionResetError, BrokenPipeError)),
        ):
            while True:
                caller.sendall(b"x" * 65_536)
        assert asked_as_status_asks(port).halted


def test_a_stop_on_purpose_while_it_is_being_stopped_ends_it(tmp_path: Path) -> None:
    played = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(78))
print("runs", flush=True)
while True: time.sleep(0.05)
"""
    with container(tmp_path, played) as running:
        assert running.stdout is not None and running.stdout.readline() == "runs\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(WITHIN_S) == 78


def test_a_name_that_is_no_process_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.container", "nothing"],
        cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "expected one of kafka" in done.stderr


def test_processes_listen_everywhere_but_the_agent_where_others_find_its_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(container_place, "own_address", lambda: "172.20.0.9")
    assert addressed(BY_NAME["gateway"], {})["HYDRA_GATEWAY_HOST"] == "0.0.0.0"
    assert addressed(BY_NAME["worker"], {})["HYDRA_WORKER_HOST"] == "172.20.0.9"
    # Whatever was set: the probe, and those who ask for its status, look nowhere else.
    assert addressed(BY_NAME["worker"], {"HYDRA_WORKER_HOST": "10.0.0.1"}) == {"HYDRA_WORKER_HOST": "172.20.0.9"}
    assert addressed(BY_NAME["billing"], {"HYDRA_BILLING_HOST": "127.0.0.1"}) == {"HYDRA_BILLING_HOST": "0.0.0.0"}
    assert addressed(BY_NAME["topics"], {}) == {}


def test_a_node_takes_the_first_folder_that_no_container_has_claimed(tmp_path: Path) -> None:
    one, two = NodeClaim(tmp_path), NodeClaim(tmp_path)
    assert (one.folder, two.folder) == (tmp_path / "node-1", tmp_path / "node-2")
    one.release()
    again = NodeClaim(tmp_path)
    assert again.folder == tmp_path / "node-1"
    for claim in (again, two):
        claim.release()


@pytest.mark.parametrize("given", [{}, {"HYDRA_WORKER_FOLDER": "/tmp/x"}], ids=["none set", "one set for all nodes"])
def test_the_agent_is_told_its_folder(tmp_path: Path, given: dict[str, str]) -> None:
    (tmp_path / "nodes").mkdir()
    told, claim = with_node_folder(BY_NAME["worker"], {"HYDRA_HOME": str(tmp_path), **given})
    assert claim is not None and told["HYDRA_WORKER_FOLDER"] == str(tmp_path / "nodes" / "node-1")
    claim.release()
    assert with_node_folder(BY_NAME["gateway"], {"A": "b"}) == ({"A": "b"}, None)


def test_the_probe_tells_ready_from_not_ready_and_from_halted(tmp_path: Path) -> None:
    answers = {200: 0, 503: 1}
    for status, code in answers.items():
        with socket.create_server(("127.0.0.1", 0)) as server:
            asked = probe(server.getsockname()[1], tmp_path / "halted")
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET /health/ready ")
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\nword".encode())
            out, _ = asked.communicate(timeout=WITHIN_S)
            assert (asked.returncode, out.strip()) == (code, "word")
    (tmp_path / "halted").write_text("it stopped on purpose\n")
    asked = probe(9, tmp_path / "halted")
    out, _ = asked.communicate(timeout=WITHIN_S)
    assert (asked.returncode, out.strip()) == (1, "it stopped on purpose")


def probe(port: int, halted: Path) -> subprocess.Popen[str]:
    code = f"""
from dataclasses import replace
from pathlib import Path
from runner import container_probe
container_probe.HALTED = Path({str(halted)!r})
container_probe.PROCESSES = tuple(replace(each, port={port}) for each in container_probe.PROCESSES)
raise SystemExit(container_probe.main("gateway"))
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
