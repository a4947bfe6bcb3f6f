"""Kafka and ClickHouse away under load, alone and together, back in either order: all goes on by itself, exactly.

Each outage lasts as long as `HYDRA_FAULTS_OUTAGE_S` says, a few seconds where it is unset.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.faults.away import OUTAGE_S, TEST_TIMEOUT_S, await_all_told, kept_away, standing_still
from tests.faults.comparison import Compared, compare
from tests.faults.harms import TOLD_WITHIN_S, await_order
from tests.faults.load import Load, end_services, new_customers
from tests.servers.platform import Platform, wait_until

pytestmark = pytest.mark.timeout(TEST_TIMEOUT_S)

SEED = 20261122
ANSWERS = 20
OF_KAFKA = ("token_charges", "instance_charges", "warehouse", "live_spend", "worker", "lifecycle")
"""Processes that do not do all they are there for without Kafka, and say so. The others have nothing to tell it."""
OF_CLICKHOUSE = ("warehouse", "billing")


@dataclass
class Played:
    """`told` is what `hydra status` said, by who was away and of whom it was said; `served`: answers during it."""

    load: Load
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def played(platform_in_trouble: Platform) -> Iterator[Played]:
    platform = platform_in_trouble
    customers = new_customers(platform, "outages")
    played = Played(Load(platform, customers, SEED, at_once=3, pause_s=0.2))

    def away(who: str, of: tuple[str, ...]) -> None:
        before = played.load.answered()
        played.told[who] = await_all_told(platform, of, at_least_s=OUTAGE_S)
        is_named = next((named for cause, named in CAUSES.items() if who.startswith(cause)), None)
        if is_named is not None:
            # What waits for the other one, which is back, may name it until that time is out.
            def all_name_it() -> bool:
                played.told[who] = await_all_told(platform, of)
                return all(is_named(*one) for one in played.told[who].items())

            wait_until(all_name_it, f"hydra status names the cause with {who}", TOLD_WITHIN_S)
        wait_until(lambda: played.load.answered() > before + ANSWERS, f"requests are served with {who} away")
        played.served[who] = played.load.answered() - before

    with played.load.running():
        with ExitStack() as kafka, ExitStack() as clickhouse:
            kafka.enter_context(standing_still(platform, "kafka"))
            away("Kafka, standing still", ("kafka", *OF_KAFKA))
            clickhouse.enter_context(kept_away(platform, "clickhouse"))
            away("both, Kafka standing still", ("kafka", "clickhouse", *OF_CLICKHOUSE))
            kafka.close()
            away("ClickHouse, killed", ("clickhouse", *OF_CLICKHOUSE))
        await_order(platform)
        with ExitStack() as kafka, ExitStack() as clickhouse:
            clickhouse.enter_context(standing_still(platform, "clickhouse"))
            away("ClickHouse, standing still", ("clickhouse", *OF_CLICKHOUSE))
            kafka.enter_context(kept_away(platform, "kafka"))
            away("both, ClickHouse standing still", ("kafka", "clickhouse", *OF_KAFKA))
            clickhouse.close()
            away("Kafka, killed", ("kafka", *OF_KAFKA))
        await_order(platform)
        away_no_more = played.load.answered()
        wait_until(lambda: played.load.answered() > away_no_more + ANSWERS, "requests are served after all of it")
    end_services(platform, customers)
    yield played


@pytest.fixture(scope="module")
def compared(platform_in_trouble: Platform, played: Played) -> Compared:
    return compare(platform_in_trouble, played.load)


def is_of_kafka(name: str, said: str) -> bool:
    return "Kafka" in said or (name, said) == ("kafka", "not_ready: does not answer") or "restarting" in said


def is_of_clickhouse(name: str, said: str) -> bool:
    return name == "clickhouse" or "ClickHouse" in said


CAUSES = {"Kafka": is_of_kafka, "ClickHouse": is_of_clickhouse}


@pytest.mark.parametrize("how", ["standing still", "killed"])
def test_status_names_kafka_as_the_cause_while_it_is_away(played: Played, how: str) -> None:
    for name, said in played.told[f"Kafka, {how}"].items():
        assert is_of_kafka(name, said), f"{name}: {said}"


@pytest.mark.parametrize("how", ["standing still", "killed"])
def test_status_names_clickhouse_as_the_cause_while_it_is_away(played: Played, how: str) -> None:
    for name, said in played.told[f"ClickHouse, {how}"].items():
        assert is_of_clickhouse(name, said), f"{name}: {said}"


def test_requests_are_served_all_the_while(played: Played) -> None:
    assert len(played.served) == 6
    assert all(count > ANSWERS for count in played.served.values())


def test_the_bill_is_right_after_every_outage(compared: Compared) -> None:
    print(compared.line())
    # No outage of Kafka or ClickHouse costs a request.
    assert compared.outcomes["gateway_lost"] == 0
    assert compared.untaken == 0
    assert compared.outcomes["completed"] > 6 * ANSWERS
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0
