"""Processes that stand still longer than anybody waits for them, and come back not knowing it: the bill is right.

`test_rebalances.py` does the same to two processors a group, where another one takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.faults.away import (
    OUTAGE_S,
    SESSION_S,
    TEST_TIMEOUT_S,
    WRITE_OFF_S,
    await_all_told,
    standing_still,
)
from tests.faults.comparison import Compared, compare
from tests.faults.harms import await_order, await_told, ready_instances, service_in_trouble
from tests.faults.load import Load, end_services, new_customers
from tests.servers.platform import Platform, wait_until

pytestmark = pytest.mark.timeout(TEST_TIMEOUT_S)

SEED = 20261123
ANSWERS = 20
WAVES = (
    ("token_charges", "instance_charges", "warehouse", "live_spend"),
    ("gateway", "accounts", "billing"),
    ("lifecycle",),
    ("worker",),
)
"""Who stand still at the same time."""


@dataclass
class Played:
    """`told` is what `hydra status` said of each while it stood still."""

    load: Load
    told: dict[str, str] = field(default_factory=dict)
    instances: dict[str, list[str]] = field(default_factory=dict)
    written_off: str = ""


@pytest.fixture(scope="module")
def played(platform_in_trouble: Platform) -> Iterator[Played]:
    platform = platform_in_trouble
    (customer,) = customers = new_customers(platform, "zombies")
    played = Played(Load(platform, customers, SEED, at_once=3, pause_s=0.2))
    own = f"{customer.account}/own0"

    def serves_on() -> None:
        before = played.load.answered()
        wait_until(lambda: played.load.answered() > before + ANSWERS, "requests are served")

    with played.load.running():
        serves_on()
        for wave in WAVES:
            played.instances[wave[0]] = ready_instances(platform, "own0", customer.account)
            with standing_still(platform, *wave):
                played.told |= await_all_told(platform, wave, at_least_s=max(OUTAGE_S, SESSION_S + 1))
                if wave == ("worker",):
                    played.written_off = await_told(platform, service_in_trouble(own), "its instance is written off")
            await_order(platform)
            serves_on()
        played.instances["at the end"] = ready_instances(platform, "own0", customer.account)
    end_services(platform, customers)
    yield played


@pytest.fixture(scope="module")
def compared(platform_in_trouble: Platform, played: Played) -> Compared:
    return compare(platform_in_trouble, played.load)


@pytest.mark.parametrize("name", [name for wave in WAVES for name in wave])
def test_status_tells_of_what_stands_still(played: Played, name: str) -> None:
    assert "does not answer" in played.told[name]


def test_only_the_silent_nodes_instances_are_replaced(played: Played) -> None:
    """An agent silent for longer than lifecycle waits loses its instances; no other zombie costs one."""
    assert WRITE_OFF_S > SESSION_S
    assert played.written_off
    assert played.instances["token_charges"] == played.instances["worker"]
    assert not set(played.instances["at the end"]) & set(played.instances["worker"])


def test_the_bill_is_right_after_every_zombie(compared: Compared) -> None:
    print(compared.line())
    assert compared.outcomes["gateway_lost"] == 0
    assert compared.outcomes["completed"] > len(WAVES) * ANSWERS
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0
