"""Runs one process of the table as a container's first process: `python -m runner.container PROCESS`.

It hands on signals and waits for whatever becomes its child. A process that dies ends the container, which Docker
starts again. One that stopped on purpose (exit code 78) does not: Docker cannot tell exit codes apart, so the container
stays until an operator restarts it, unhealthy and with the reason in its log, and answers in the process's place that
it is not ready. See docs/compose.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

from runner.container_place import ANSWERS_HALTED, EVERY_ADDRESS, HALTED, addressed, with_node_folder
from runner.processes import PROCESSES, Process

EXIT_STOP_ON_PURPOSE = 78
EXIT_USAGE = 2
CALLER_WITHIN_S = 5.0
LOOK_EVERY_S = 0.5
"""How long a halted container takes to see that it is asked to end."""
HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """The exit code of the process; 128 and the signal's number where one ended it; 2 for a process that is none."""
    process = next((each for each in PROCESSES if [each.name] == arguments), None)
    if process is None:
        print(f"container: expected one of {', '.join(each.name for each in PROCESSES)}", file=sys.stderr)
        return EXIT_USAGE
    HALTED.unlink(missing_ok=True)
    environment, _claim = with_node_folder(process, addressed(process, os.environ))
    first = FirstProcess(process, environment)
    code = first.run()
    if code == EXIT_STOP_ON_PURPOSE and not first.asked_to_end:
        first.stay_halted()
    return code


class FirstProcess:
    """The container's process 1: one child that matters, and all orphans of the container."""

    def __init__(self, process: Process, environment: Mapping[str, str]) -> None:
        self.asked_to_end = False
        self._process = process
        self._environment = dict(environment)
        self._pid: int | None = None
        self._waiting: list[int] = []

    def run(self) -> int:
        """Runs the process to its end and returns its exit code."""
        for wanted in HANDED_ON:
            signal.signal(wanted, self._on_signal)
        child = subprocess.Popen([sys.executable, "-m", self._process.module], env=self._environment)
        self._pid = child.pid
        for number in self._waiting:
            os.kill(child.pid, number)
        while True:
            pid, status = os.wait()
            if pid == child.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def stay_halted(self) -> None:
        """Keeps the container until it is asked to end. The process's own last line says why it stopped."""
        name = self._process.name
        reason = f"{name} stopped on purpose; its log says why and what to do: docker compose logs {name}"
        HALTED.write_text(f"{reason}\n")
        with _answering(self._process.port, reason) as answer_or_wait:
            print(
                f"{name} stopped on purpose and is not started again. Once `hydra resume {name}` has recorded what is "
                f"missing, run: docker compose restart {name}",
                file=sys.stderr,
                flush=True,
            )
            while not self.asked_to_end:
                answer_or_wait()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.asked_to_end = True
        if self._pid is None:
            self._waiting.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)


class _Server(TCPServer):
    """Not HTTPServer, which first looks for the name of its own address."""

    allow_reuse_address = True
    timeout = LOOK_EVERY_S


@contextlib.contextmanager
def _answering(port: int | None, reason: str) -> Iterator[Callable[[], None]]:
    """Answers in the process's place, so that `hydra status` tells why it is not ready, and not that nobody is there.

    Each call waits a moment for one caller. One after the other is enough: nobody is served here.
    """
    content = json.dumps({"status": ANSWERS_HALTED, "reason": reason}).encode()

    class Door(BaseHTTPRequestHandler):
        timeout = CALLER_WITHIN_S

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    try:
        server = None if port is None else _Server((EVERY_ADDRESS, port), Door)
    except OSError as error:
        print(f"container: port {port} cannot be had, so it tells nobody: {error}", file=sys.stderr, flush=True)
        server = None
    if server is None:
        yield lambda: time.sleep(LOOK_EVERY_S)
        return
    with server:
        yield server.handle_request


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
