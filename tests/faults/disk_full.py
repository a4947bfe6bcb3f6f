"""What is played on a disk without room, whichever way the room is taken: by a file-size limit, or on a full tmpfs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.faults.harms import await_order, await_told, process_in_trouble, status
from tests.faults.load import Customer, Load, end_services, new_customers
from tests.servers.platform import Platform, wait_until

SEED = 20261122
ANSWERS = 20

NoRoom = Callable[[Platform, str], AbstractContextManager[None]]
"""Takes all room from the process of that name, and gives it back."""


@dataclass
class Played:
    """`told` is what `hydra status` said while there was no room, `refused` how a command was answered then,
    `answered_without_room` counts whole answers while the spool took nothing, `restarts` how often each process had
    to be started again."""

    load: Load
    told: dict[str, str] = field(default_factory=dict)
    refused: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    answered_without_room: int = 0
    restarts: dict[str, int] = field(default_factory=dict)


def play(platform: Platform, no_room: NoRoom, clickhouse_told_by: str) -> Played:
    """Under load take the room from gateway, lifecycle, accounts and ClickHouse in turn; end all services.

    `clickhouse_told_by` names the process in whose line `hydra status` tells of a ClickHouse without room.
    """
    customers = new_customers(platform, "full")
    played = Played(Load(platform, customers, SEED, at_once=4))
    with played.load.running():
        _serves(played)
        with no_room(platform, "gateway"):
            _refuse_requests(platform, played)
        _recovers(platform, played)
        for name in ("lifecycle", "accounts"):
            with no_room(platform, name):
                played.told[name] = await_told(platform, process_in_trouble(name), f"{name} has no room")
                played.refused[name] = _command(platform, name, customers[0])
            _recovers(platform, played)
            again = _command(platform, name, customers[0])
            assert again.returncode == 0, again.stderr
        with no_room(platform, "clickhouse"):
            trouble = process_in_trouble(clickhouse_told_by)
            played.told["clickhouse"] = await_told(platform, trouble, "ClickHouse has no room")
            _serves(played)
        _recovers(platform, played)
    played.restarts = {process["name"]: process["restarts"] for process in status(platform)["processes"]}
    end_services(platform, customers)
    return played


def _serves(played: Played) -> None:
    before = played.load.answered()
    wait_until(lambda: played.load.answered() > before + ANSWERS, "requests are served")


def _recovers(platform: Platform, played: Played) -> None:
    await_order(platform)
    _serves(played)


def _refuse_requests(platform: Platform, played: Played) -> None:
    """While the spool takes nothing, nothing may be answered in full: what runs waits, what comes is refused."""
    played.told["gateway"] = await_told(platform, process_in_trouble("gateway"), "the spool cannot be written")
    refusals, before = played.load.seen()["503"], played.load.answered()
    wait_until(lambda: played.load.seen()["503"] > refusals + ANSWERS, "requests are refused for want of room")
    played.answered_without_room = played.load.answered() - before


def _command(platform: Platform, name: str, customer: Customer) -> subprocess.CompletedProcess[str]:
    """A change that the service must write down."""
    words = {
        "lifecycle": ("service", "scale", customer.services[0], "2"),
        "accounts": ("key", "create"),
    }[name]
    return platform.run(*words, "--account", customer.account, check=False)
