"""The harm: processes and engines killed, stopped for a while, without room on their disk, with a wrong wall clock; and
what is told of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.servers.platform import Platform, wait_until

KILLED = (
    "gateway",
    "token_charges",
    "instance_charges",
    "warehouse",
    "live_spend",
    "lifecycle",
    "accounts",
    "billing",
    "worker",
    "kafka",
    "clickhouse",
)
"""Every process of the platform that stays; what is started last stands first nowhere, so that an order is drawn."""

TOLD_WITHIN_S = 120.0
BACK_WITHIN_S = 180.0

Status = dict[str, Any]


def pid_of(platform: Platform, name: str) -> int:
    """The process that runs under this name now. Waits for one that is just being started again."""

    def found() -> int | None:
        record = json.loads((platform.home / "run" / "platform.json").read_text())
        pids = [process["pid"] for process in record["processes"] if process["name"] == name]
        assert pids, f"no process is called {name}"
        pid: int | None = pids[0]
        return pid

    pid: int = wait_until(found, f"{name} runs", BACK_WITHIN_S)
    return pid


def kill(platform: Platform, name: str) -> None:
    """kill -9 of one process of the platform."""
    with suppress(ProcessLookupError):  # another harm was quicker
        os.kill(pid_of(platform, name), signal.SIGKILL)


def kill_engine(platform: Platform, instance: str) -> None:
    """kill -9 of one engine and all it started, found by the agent's own record."""

    def engine() -> int | None:
        record = json.loads(next((platform.home / "worker").glob(f"**/{instance}.json")).read_text())
        process = record.get("process")
        return None if process is None else process["pid"]

    with suppress(ProcessLookupError):  # it has just died by itself
        os.killpg(wait_until(engine, f"{instance} has an engine", BACK_WITHIN_S), signal.SIGKILL)


def engines(platform: Platform) -> list[int]:
    """The process groups of all engines that run, by the agents' own records."""
    records = [json.loads(path.read_text()) for path in sorted((platform.home / "worker").glob("**/i-*.json"))]
    return [record["process"]["pid"] for record in records if record.get("process") is not None]


def stop_for(platform: Platform, name: str, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so long: a process that stands still and does not know it."""
    pid = pid_of(platform, name)
    with suppress(ProcessLookupError):  # killed before, or while it stood still
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


def ready_instances(platform: Platform, name: str, account: str) -> list[str]:
    """Instances of a service that serve now."""
    return [entry["id"] for entry in platform.service(name, account)["instances"] if entry["state"] == "ready"]


def status(platform: Platform) -> Status:
    """What `hydra status` tells, and `code`, its exit code."""
    done = platform.run("status", "--json", check=False)
    told: Status = json.loads(done.stdout)
    return told | {"code": done.returncode}


def process_in_trouble(name: str) -> Callable[[Status], str]:
    """Whether a status tells that this process does not do what it is there for: its state and reason, else empty."""

    def told(status: Status) -> str:
        for process in status["processes"]:
            if process["name"] == name and process["state"] != "ready":
                return f"{process['state']}: {process['reason']}"
        return ""

    return told


def service_in_trouble(access_path: str) -> Callable[[Status], str]:
    """Whether a status tells that this service has fewer instances than it should: how many, else empty."""

    def told(status: Status) -> str:
        for service in status["services"]:
            if service["access_path"] == access_path and service["ready"] < service["replicas"]:
                return f"{access_path} has {service['ready']} of {service['replicas']} instances"
        return ""

    return told


def await_told(
    platform: Platform, trouble: Callable[[Status], str], what: str, harm: Callable[[], None] | None = None
) -> str:
    """Ask `hydra status` until it tells of the trouble, and fails as it must; returns what it said. `harm` is done
    before each time."""

    def told() -> str:
        if harm is not None:
            harm()
        seen = status(platform)
        said = trouble(seen)
        assert not said or seen["code"] != 0, f"hydra status tells of trouble and ends with 0: {seen}"
        return said

    said: str = wait_until(told, f"hydra status tells that {what}", TOLD_WITHIN_S, 0.0)
    return said


def await_order(platform: Platform) -> None:
    """Wait until `hydra status` finds everything in order again, all by itself."""

    def processes_in_order() -> bool:
        # Cheaper to ask than the command, which is asked afterwards.
        record = json.loads((platform.home / "run" / "platform.json").read_text())
        return all(process["state"] in ("ready", "done") for process in record["processes"])

    def in_order() -> bool:
        seen = status(platform)
        last.update(seen)
        return bool(seen["code"] == 0)

    last: Status = {}
    wait_until(processes_in_order, "every process is ready again", BACK_WITHIN_S)
    try:
        wait_until(in_order, "everything is in order again", BACK_WITHIN_S, 0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None


@contextmanager
def no_room(platform: Platform, name: str) -> Iterator[None]:
    """As on a full disk: no file of this process may grow (RLIMIT_FSIZE). What it has open already is cut off too.

    A process of the platform writes its log into a pipe, so it can still say what is wrong.
    """
    pid = pid_of(platform, name)
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have died of it, and is then started again with room
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


class Clocks:
    """Moves the wall clock of one process of a platform that was started with HYDRA_CLOCK_OFFSETS of `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def move(self, process: str, seconds: float) -> None:
        """It stands so far ahead (below 0: behind) from now on."""
        scratch = self.folder / f"{process}.new"
        scratch.write_text(f"{seconds}")
        scratch.replace(self.folder / process)
