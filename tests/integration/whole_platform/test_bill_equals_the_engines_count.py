"""Thousands of mixed requests and services that scale, die and come back: the bill against an independent count.

The truth (`tests/faults/truth.py`) is the engines' own ledgers, tokens a request, and the agent's log of readiness,
seconds an instance. Neither knows how bills are made; the rules below are DESIGN's "who pays for what", written down a
second time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.bills import Mismatch
from tests.faults.truth import PAID, Truth, ledger_settings
from tests.integration.whole_platform.traffic import Caller, play
from tests.servers.platform import Platform, running_platform, wait_until

pytestmark = pytest.mark.bills

SHARED = "public/deepseek-r1"
REQUESTS = int(os.environ.get("HYDRA_TEST_REQUESTS", "2400"))
SEED = int(os.environ.get("HYDRA_TEST_SEED", "20261121"))
INPUT_PRICE, OUTPUT_PRICE = Fraction(4, 1_000_000), Fraction(16, 1_000_000)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of its own, since its engines get killed; every engine keeps a ledger."""
    home = tmp_path_factory.mktemp("mixed")
    with running_platform(home, **ledger_settings(home)) as platform:
        yield platform


def sql(platform: Platform, query: str) -> list[dict[str, Any]]:
    """As the analyst."""
    answer = json.loads(platform.run("sql", "--json", query).stdout)
    rows: list[dict[str, Any]] = answer["data"]
    return rows


def usage_rows(platform: Platform, account: str) -> list[dict[str, Any]]:
    return sql(platform, f"SELECT * FROM v_usage WHERE account = '{account}' LIMIT 20000")


def kill_engine(platform: Platform, instance: str) -> None:
    """kill -9 of one engine, found by the agent's own record."""
    record = json.loads(next((platform.home / "worker").glob(f"**/{instance}.json")).read_text())
    os.killpg(record["process"]["pid"], signal.SIGKILL)


async def disturb(platform: Platform, own: str, account: str, done: asyncio.Event) -> None:
    """While requests run: kill an engine of each kind, scale the own service up and down, let all come back."""

    def instances(name: str, of: str) -> list[str]:
        return [entry["id"] for entry in platform.service(name, of)["instances"] if entry["state"] == "ready"]

    await asyncio.sleep(2)
    await asyncio.to_thread(kill_engine, platform, (await asyncio.to_thread(instances, own, account))[0])
    await asyncio.to_thread(platform.hydra, "service", "scale", own, "+1", "--account", account)
    await asyncio.sleep(2)
    shared = await asyncio.to_thread(instances, "deepseek-r1", "public")
    await asyncio.to_thread(kill_engine, platform, shared[0])
    await asyncio.to_thread(platform.await_ready, own, account, 3)
    await asyncio.to_thread(platform.hydra, "service", "scale", own, "2", "--account", account)
    await asyncio.to_thread(platform.await_ready, "deepseek-r1", "public", 2)
    done.set()


@pytest.fixture(scope="module")
def played(platform: Platform) -> dict[str, Any]:
    """Two customers, the shared model on two instances, three own services; then everything is ended."""
    chance = random.Random(SEED)
    platform.hydra("service", "scale", "deepseek-r1", "2", "--account", "public")
    one, two = platform.new_account("one"), platform.new_account("two")
    keys = {one: platform.new_key(one), two: platform.new_key(two)}
    for account, name, replicas in ((one, "alpha", 2), (one, "beta", 1), (two, "gamma", 1)):
        words = ("--model", "qwen2.5-7b-instruct", "--region", "sh-02", "--replicas", str(replicas))
        platform.hydra("service", "deploy", name, *words, "--account", account)
    platform.await_ready("deepseek-r1", "public", 2)
    for account, name, replicas in ((one, "alpha", 2), (one, "beta", 1), (two, "gamma", 1)):
        platform.await_ready(name, account, replicas)
    callers = {account: Caller(platform.url("gateway"), key, chance) for account, key in keys.items()}
    models = {one: [SHARED, SHARED, f"{one}/alpha", f"{one}/beta"], two: [SHARED, SHARED, f"{two}/gamma"]}

    async def run() -> None:
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb(platform, "alpha", one, done))
            for account, caller in callers.items():
                group.create_task(play(caller, models[account], REQUESTS // 2, 12))

    asyncio.run(run())
    shown = {(account, name): platform.service(name, account) for account, name in ((one, "alpha"), (one, "beta"))}
    platform.hydra("service", "stop", "beta", "--account", one)
    platform.await_ready("gamma", two, 1)
    platform.hydra("service", "delete", "alpha", "--confirm", "alpha", "--account", one)
    platform.hydra("service", "delete", "gamma", "--confirm", "gamma", "--account", two)
    return {"callers": callers, "shown": shown}


@pytest.fixture(scope="module")
def usage(platform: Platform, played: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every usage row of each account, once there are as many as the clients sent, each rated."""
    callers: dict[str, Caller] = played["callers"]

    wanted = {account: caller.sent for account, caller in callers.items()}
    state: dict[str, Any] = {"sent": wanted}

    def all_rated() -> bool:
        rows = sql(platform, "SELECT account, count() AS n FROM v_usage GROUP BY account")
        rated = sql(
            platform,
            "SELECT account, uniqExact(source_event) AS n FROM (SELECT account, source_event FROM v_charges "
            "WHERE source_type = 'usage' UNION ALL SELECT account, id FROM v_unbilled_usage) GROUP BY account",
        )
        for name, found in (("recorded", rows), ("rated", rated)):
            state[name] = {row["account"]: int(row["n"]) for row in found if row["account"] in wanted}
        return bool(state["recorded"] == state["rated"] == wanted)

    try:
        wait_until(all_rated, "every request has its usage and its charges or reason", 180, 1.0)
    except AssertionError as late:
        counts = ("sent", "answered", "failed", "left", "refused")
        seen = {account: {name: getattr(caller, name) for name in counts} for account, caller in callers.items()}
        raise Mismatch(f"{late}: {state}; clients saw {seen}") from None
    return {account: usage_rows(platform, account) for account in callers}


def test_every_authenticated_request_has_exactly_one_usage_row(
    played: dict[str, Any], usage: dict[str, list[dict[str, Any]]]
) -> None:
    for account, caller in played["callers"].items():
        ids = [row["id"] for row in usage[account]]
        assert len(ids) == len(set(ids)) == caller.sent
        outcomes = Counter(row["outcome"] for row in usage[account])
        assert outcomes["completed"] >= caller.answered
        assert outcomes["refused"] + outcomes["engine_refused"] >= caller.refused
        assert outcomes["gateway_lost"] == 0
    outcomes = Counter(row["outcome"] for rows in usage.values() for row in rows)
    # The mix and the kills must have made every case, else this test shows nothing.
    assert {"completed", "client_gone", "client_gone_unreported", "refused", "engine_refused"} <= set(outcomes), (
        outcomes
    )
    assert outcomes["engine_lost"] or any(row["attempts"] for rows in usage.values() for row in rows), outcomes


def test_tokens_are_those_that_the_engines_counted(platform: Platform, usage: dict[str, list[dict[str, Any]]]) -> None:
    ledger = Truth(platform.home).served_by_request()
    checked: Counter[str] = Counter()
    for row in (row for rows in usage.values() for row in rows):
        if row["outcome"] not in PAID:
            continue
        # A retried request has an engine request id of its own, derived from the request's.
        lines = [line for line in ledger.get(row["id"], []) if row["attempts"] or line.engine_request_id == row["id"]]
        assert lines, f"{row['id']} is billed, but no engine served it"
        stated = (int(row["prompt_tokens"]), int(row["completion_tokens"]))
        agree = [line for line in lines if line.agrees(row["outcome"], *stated)]
        assert agree, (row, lines)
        line = agree[-1]
        checked[f"{row['outcome']} n={min(line.n, 2)} prompts={min(line.prompts, 2)}"] += 1
    assert sum(checked.values()) > REQUESTS * 0.7, checked
    # Who leaves pays up to there: what an engine told of one choice to its end is not free.
    told = [
        row
        for rows in usage.values()
        for row in rows
        if row["outcome"] == "client_gone_unreported"
        and any(line.n == 1 and line.finished and line.completion_tokens for line in ledger.get(row["id"], []))
    ]
    gone = sum(count for what, count in checked.items() if what.startswith("client_gone"))
    print(f"{len(told)} of {gone + len(told)} who left were not charged although the engine told")
    assert len(told) <= 0.05 * gone, (gone, told[:5])


def test_what_clients_saw_is_what_is_recorded(played: dict[str, Any], usage: dict[str, list[dict[str, Any]]]) -> None:
    for account, caller in played["callers"].items():
        rows = {row["id"]: row for row in usage[account]}
        for id, prompt_tokens, completion_tokens in caller.usages:
            row = rows[id]
            assert (int(row["prompt_tokens"]), int(row["completion_tokens"])) == (prompt_tokens, completion_tokens)


def test_the_bill_of_tokens_is_the_engines_count_times_the_price(
    platform: Platform, usage: dict[str, list[dict[str, Any]]]
) -> None:
    for account, rows in usage.items():
        paid = [row for row in rows if row["outcome"] in PAID and row["access_path"] == SHARED]
        tokens = {
            "input_tokens": sum(int(row["prompt_tokens"]) for row in paid),
            "output_tokens": sum(int(row["completion_tokens"]) for row in paid),
        }
        bill = platform.hydra("bill", "--account", account)
        billed = {line["meter"]: line for line in bill["lines"] if line["resource"] == SHARED}
        assert {meter: int(line["quantity"]) for meter, line in billed.items()} == tokens
        amount = tokens["input_tokens"] * INPUT_PRICE + tokens["output_tokens"] * OUTPUT_PRICE
        assert sum(Fraction(line["amount"]) for line in billed.values()) == amount
        own = [line for line in bill["lines"] if line["meter"] != "instance_seconds" and line["resource"] != SHARED]
        assert own == [], "tokens on an own service are not charged"


def test_instance_seconds_are_those_that_the_agent_proved(platform: Platform, played: dict[str, Any]) -> None:
    truth = Truth(platform.home)
    for account in played["callers"]:
        stops = stops_of(platform, account)

        def compared(account: str = account, stops: dict[str, datetime | None] = stops) -> dict[str, tuple[int, int]]:
            billed = billed_seconds(platform, account)
            return {name: (billed[name], truth.seconds(name, at)) for name, at in stops.items()}

        def settled(compared: Any = compared) -> bool:
            return all(paid == proven for paid, proven in compared().values())

        try:
            wait_until(settled, "billed seconds equal proven seconds", 60, 1.0)
        except AssertionError:
            raise AssertionError(f"(billed, proven) by instance: {compared()}") from None
        assert sum(paid for paid, _ in compared().values()) > 0
    assert len(stops_of(platform, next(iter(played["callers"])))) >= 4, "two, one more, and another service's"


def stops_of(platform: Platform, account: str) -> dict[str, datetime | None]:
    """Instance -> when its end was accepted; all of an account."""
    rows = sql(
        platform,
        "SELECT instance, minIf(at, state IN ('draining', 'ended', 'written_off')) AS stopped, "
        "countIf(state IN ('draining', 'ended', 'written_off')) AS stops "
        f"FROM instance_events FINAL WHERE account = '{account}' GROUP BY instance",
    )
    return {
        row["instance"]: datetime.fromisoformat(row["stopped"]).replace(tzinfo=UTC) if int(row["stops"]) else None
        for row in rows
    }


def billed_seconds(platform: Platform, account: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in platform.hydra("bill", "--account", account)["lines"]:
        if line["meter"] == "instance_seconds":
            found[line["resource"]] += int(line["quantity"])
    return found


def test_intervals_of_an_instance_never_overlap(platform: Platform, played: dict[str, Any]) -> None:
    rows = sql(
        platform,
        "SELECT instance, billable_from, billable_until FROM instance_events FINAL WHERE billable_from IS NOT NULL",
    )
    by_instance: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for row in rows:
        start, end = (datetime.fromisoformat(row[name]) for name in ("billable_from", "billable_until"))
        assert start < end
        by_instance[row["instance"]].append((start, end))
    assert by_instance
    for intervals in by_instance.values():
        intervals.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(intervals))


def test_balances_at_rest_equal_clickhouse_to_the_last_digit(platform: Platform, played: dict[str, Any]) -> None:
    from tests.integration.whole_platform.balances import read_balances

    for account in played["callers"]:

        def equal(account: str = account) -> bool:
            bill = platform.hydra("bill", "--account", account)
            total = {row["currency"]: Decimal(row["amount"]) for row in bill["totals"]["overall"]}
            balance = asyncio.run(read_balances(platform.kafka)).get(account)
            return balance is not None and balance.spent_total == total

        wait_until(equal, f"the balance of {account} equals its bill", 60, 0.5)
