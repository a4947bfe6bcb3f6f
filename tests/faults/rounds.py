"""One round of harm: what is done when is drawn from a seed, so that a round that fails can be played again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tests.faults.comparison import Compared, compare
from tests.faults.harms import KILLED, await_order, engines, kill, stop_for
from tests.faults.load import SHARED, Customer, Load, end_services, new_customers
from tests.servers.platform import Platform

LOAD_S = 20.0
HARMS_MIN, HARMS_MAX = 2, 5
AT_ONCE_MAX = 4
STOPPED_FOR_S_MAX = 12.0
REPLICAS_MAX = 3
CUSTOMERS_MAX = 2


@dataclass(frozen=True)
class Harm:
    """Something done `at_s` seconds after the load began. `do` returns at once, or what is to be joined later."""

    at_s: float
    what: str
    do: Callable[[Platform, list[Customer]], threading.Thread | None]


def drawn(seed: int, number: int) -> list[Harm]:
    """The harms of a round, in their order."""
    chance = random.Random(f"{seed}-{number}")
    kinds = (_kill, _kill, _kill_several, _kill_engine, _stop, _scale)
    harms = []
    for _ in range(chance.randint(HARMS_MIN, HARMS_MAX)):
        what, do = chance.choice(kinds)(chance)
        harms.append(Harm(round(chance.uniform(0.5, LOAD_S - 2), 1), what, do))
    return sorted(harms, key=lambda harm: harm.at_s)


@dataclass(frozen=True)
class Round:
    """A round that was played: `load` is what it sent, to be compared again at the end of all rounds."""

    what: str
    load: Load
    compared: Compared


def play(platform: Platform, seed: int, number: int, say: Callable[[str], None]) -> Round:
    """Load, harm in the middle of it, and the comparison. Raises Mismatch, or AssertionError where something does not
    come back by itself."""
    harms = drawn(seed, number)
    what = "; ".join(f"at {harm.at_s:g} s {harm.what}" for harm in harms)
    say(f"round {number}: {what}")
    count = random.Random(f"{seed}-{number}-customers").randint(1, CUSTOMERS_MAX)
    customers = new_customers(platform, f"round{number}", count)
    load = Load(platform, customers, seed + number, at_once=max(3, 8 // count))
    with ExitStack() as stack:
        stack.enter_context(load.running())
        begun = time.monotonic()
        for harm in harms:
            time.sleep(max(0.0, begun + harm.at_s - time.monotonic()))
            thread = harm.do(platform, customers)
            if thread is not None:
                stack.callback(thread.join)
        time.sleep(max(0.0, begun + LOAD_S - time.monotonic()))
        await_order(platform)
        _await_answers(load)
    end_services(platform, customers)
    platform.hydra("service", "scale", SHARED.partition("/")[2], "1", "--account", "public")
    return Round(what, load, compare(platform, load))


def _await_answers(load: Load) -> None:
    # What comes back serves again, else a round could pass that answers nothing any more.
    before = load.answered()
    deadline = time.monotonic() + 60
    while load.answered() <= before:
        assert time.monotonic() < deadline, f"nothing is answered after the harm: {load.seen()}"
        time.sleep(0.2)


Drawn = tuple[str, Callable[[Platform, list[Customer]], threading.Thread | None]]


def _kill(chance: random.Random) -> Drawn:
    name = chance.choice(KILLED)

    def do(platform: Platform, _: list[Customer]) -> None:
        kill(platform, name)

    return f"kill {name}", do


def _kill_several(chance: random.Random) -> Drawn:
    names = chance.sample(KILLED, chance.randint(2, AT_ONCE_MAX))

    def do(platform: Platform, _: list[Customer]) -> None:
        for name in names:
            kill(platform, name)

    return f"kill {', '.join(names)} at once", do


def _kill_engine(chance: random.Random) -> Drawn:
    place = chance.random()

    def do(platform: Platform, _: list[Customer]) -> None:
        # Others may have been killed before, and an engine goes with its agent.
        if found := engines(platform):
            with suppress(ProcessLookupError):
                os.killpg(found[int(place * len(found))], signal.SIGKILL)

    return "kill an engine", do


def _stop(chance: random.Random) -> Drawn:
    name, seconds = chance.choice(KILLED), round(chance.uniform(1, STOPPED_FOR_S_MAX), 1)

    def do(platform: Platform, _: list[Customer]) -> threading.Thread:
        thread = threading.Thread(target=stop_for, args=(platform, name, seconds), name=f"{name} stands still")
        thread.start()
        return thread

    return f"stop {name} for {seconds:g} s", do


def _scale(chance: random.Random) -> Drawn:
    shared, replicas = chance.random() < 0.3, chance.randint(1, REPLICAS_MAX)

    def do(platform: Platform, customers: list[Customer]) -> None:
        for customer in customers[:1] if shared else customers:
            owner = ("public", SHARED.partition("/")[2]) if shared else (customer.account, customer.services[0])
            # Lifecycle may be away just now, and then says so: the command's failure is no failure of the round.
            platform.run("service", "scale", owner[1], str(replicas), "--account", owner[0], check=False)

    return f"scale {'the shared model' if shared else 'own services'} to {replicas}", do
