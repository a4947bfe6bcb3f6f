"""kill -9 of every process in turn, and of an engine, under load: all come back by themselves and the bill is right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.faults.comparison import Compared, compare
from tests.faults.harms import (
    BACK_WITHIN_S,
    KILLED,
    await_order,
    await_told,
    kill,
    kill_engine,
    process_in_trouble,
    ready_instances,
    service_in_trouble,
)
from tests.faults.load import Load, end_services, new_customers
from tests.faults.truth import ledger_settings
from tests.servers.platform import Platform, running_platform, wait_until

pytestmark = pytest.mark.timeout(1800)

SEED = 20261121
ANSWERS_BETWEEN = 20
"""Requests that are answered in full after one harm and before the next."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("kills")
    # An engine takes a moment to load, as a real one does, so that its absence can be seen.
    with running_platform(home, **ledger_settings(home, SIMULATED_LOAD_SECONDS="3")) as platform:
        yield platform


@dataclass
class Played:
    """What was seen. `told` is what `hydra status` said of each victim while it was away."""

    load: Load
    told: dict[str, str] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def played(platform: Platform) -> Played:
    """Load goes on all the while: each process is killed and comes back, then three at once, then an engine."""
    (customer,) = customers = new_customers(platform, "kills", replicas=2)
    played = Played(Load(platform, customers, SEED, at_once=4))
    chance = random.Random(SEED)
    order = chance.sample(KILLED, len(KILLED))
    own = f"{customer.account}/own0"

    def serves_on(victim: str) -> None:
        before = played.load.answered()
        wait_until(lambda: played.load.answered() > before + ANSWERS_BETWEEN, f"requests are served after {victim}")
        played.served[victim] = played.load.answered() - before

    with played.load.running():
        serves_on("the start")
        for victim in order:
            # What is back before a slow machine has asked is killed again.
            broken_before = played.load.broken_off()
            played.told[victim] = await_told(
                platform, process_in_trouble(victim), f"{victim} is away", partial(kill, platform, victim)
            )
            await_order(platform)
            if victim == "gateway":
                kill_until_it_costs(platform, played.load, broken_before)
            serves_on(victim)
        victim = ready_instances(platform, "own0", customer.account)[0]
        played.told["engine"] = await_told(
            platform, service_in_trouble(own), "an engine is away", partial(kill_engine, platform, victim)
        )
        several = chance.sample(KILLED, 3)
        for victim in several:
            kill(platform, victim)
        await_order(platform)
        serves_on("several at once")
    end_services(platform, customers)
    return played


def kill_until_it_costs(platform: Platform, load: Load, broken_before: int) -> None:
    """Requests are short: a gateway may die between them, which shows nothing."""

    def has_cost_some() -> bool:
        if load.broken_off() > broken_before:
            return True
        kill(platform, "gateway")
        await_order(platform)
        return False

    wait_until(has_cost_some, "a gateway's death has cost a request", BACK_WITHIN_S)


@pytest.fixture(scope="module")
def compared(platform: Platform, played: Played) -> Compared:
    return compare(platform, played.load)


@pytest.mark.parametrize("victim", [*KILLED, "engine"])
def test_status_tells_what_is_wrong_while_it_is_wrong(played: Played, victim: str) -> None:
    assert played.told[victim]


def test_the_bill_is_right_after_every_death(compared: Compared) -> None:
    print(compared.line())
    # What the deaths must have caused, else this shows nothing.
    assert compared.outcomes["gateway_lost"] > 0
    assert compared.outcomes["completed"] > len(KILLED) * ANSWERS_BETWEEN
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0


def test_what_the_platform_lost_is_shown(platform: Platform, played: Played, compared: Compared) -> None:
    """To the customer and the operator alike: how many requests a gateway's death has cost, and that they are free."""
    (customer,) = played.load.customers
    unbilled = platform.hydra("usage", "--account", customer.account)["unbilled"]
    lost = sum(row["requests"] for row in unbilled if row["reason"] == "gateway_lost")
    assert lost == compared.outcomes["gateway_lost"]
    assert "gateway_lost" in platform.run("usage", "--account", customer.account).stdout
