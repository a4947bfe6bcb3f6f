"""A process that is away for a while: it stands still, or is killed whenever it comes back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.harms import TOLD_WITHIN_S, Status, pid_of, process_in_trouble, status
from tests.servers.platform import Platform

OUTAGE_S = float(os.environ.get("HYDRA_FAULTS_OUTAGE_S", "6"))
"""How long an outage lasts at least. Minutes in the long runs."""
TEST_TIMEOUT_S = 600 + 12 * OUTAGE_S
KILL_EVERY_S = 0.2

SESSION_S = 6
"""A silent member of a consumer group loses its partitions after this; Kafka takes no shorter one."""
WRITE_OFF_S = 20
"""A silent node's instances are given up after this."""


@contextmanager
def standing_still(platform: Platform, *names: str) -> Iterator[None]:
    """SIGSTOP: connections stay open and nobody answers. It continues at the end, whatever happened."""
    pids = [pid_of(platform, name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def kept_away(platform: Platform, name: str) -> Iterator[None]:
    """Killed, and again each time that the supervisor has started it: connections are refused."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(KILL_EVERY_S):
            record = json.loads((platform.home / "run" / "platform.json").read_text())
            pid = next(process["pid"] for process in record["processes"] if process["name"] == name)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=keep, name=f"{name} is kept away", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def await_all_told(platform: Platform, names: Sequence[str], at_least_s: float = 0.0) -> dict[str, str]:
    """Wait until `hydra status` has told of trouble with each of `names`; returns what it said last of each."""
    begun = time.monotonic()
    told: dict[str, str] = {}
    seen: Status = {}
    while len(told) < len(names) or time.monotonic() < begun + at_least_s:
        missing = [name for name in names if name not in told]
        assert time.monotonic() < begun + TOLD_WITHIN_S + at_least_s, f"not told of {missing}: {seen['processes']}"
        seen = status(platform)
        said = {name: text for name in names if (text := process_in_trouble(name)(seen))}
        assert not said or seen["code"] != 0, f"hydra status tells of trouble and ends with 0: {seen}"
        told |= said
    return told
