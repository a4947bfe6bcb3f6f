"""Runs one process of the table as a container's first process: `python -m runner.container PROCESS`.

It hands on signals and waits for whatever becomes its child. A process that dies ends the container, which Docker
starts again. One that stopped on purpose (exit code 78) does not: Docker cannot tell exit codes apart, so the container
stays until an operator restarts it, unhealthy and with the reason in its log, and answers in the process's place that
it is not ready. See docs/compose.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from adapters.errors import EXIT_STOP_ON_PURPOSE
from runner.container_door import answering_halted
from runner.container_place import HALTED, addressed, with_node_folder
from runner.processes import PROCESSES, Process

EXIT_USAGE = 2
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
        asyncio.run(first.stay_halted())
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

    async def stay_halted(self) -> None:
        """Keeps the container until it is asked to end. The process's own last line says why it stopped."""
        name = self._process.name
        reason = f"{name} stopped on purpose; its log says why and what to do: docker compose logs {name}"
        HALTED.write_text(f"{reason}\n")
        asked_to_end = asyncio.Event()
        for wanted in HANDED_ON:
            asyncio.get_running_loop().add_signal_handler(wanted, asked_to_end.set)
        async with answering_halted(self._process.port, reason):
            print(
                f"{name} stopped on purpose and is not started again. Once `hydra resume {name}` has recorded what is "
                f"missing, run: docker compose restart {name}",
                file=sys.stderr,
                flush=True,
            )
            # Asked since the process ended, but before the handlers above.
            if not self.asked_to_end:
                await asked_to_end.wait()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.asked_to_end = True
        if self._pid is None:
            self._waiting.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
