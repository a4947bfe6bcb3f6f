"""ClickHouse loses all that it had, or comes back as it once was: the warehouse stops on purpose, and is told to read
Kafka again; the bill is what it was, to the last digit."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.traffic import instance_minutes, requests
from tests.faults.comparison import compare, sql
from tests.faults.harms import await_order, await_told, kill, process_in_trouble, status
from tests.faults.load import Customer, Load, end_services, new_customers
from tests.faults.operator import hydra_resume, stopped_on_purpose
from tests.faults.truth import ledger_settings
from tests.servers.billing_way import BillingWay
from tests.servers.platform import UP_WITHIN_S, Platform, running_platform, wait_until

pytestmark = pytest.mark.timeout(1200)

SEED = 20261125
ANSWERS = 40


@dataclass(frozen=True)
class Played:
    platform: Platform
    customer: Customer
    load: Load


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A platform of its own, whose Kafka holds charges of tokens and of time, all of them in ClickHouse."""
    home = tmp_path_factory.mktemp("lost")
    with running_platform(home, **ledger_settings(home)) as platform:
        customers = new_customers(platform, "lost")
        load = Load(platform, customers, SEED, at_once=3, pause_s=0.1)
        with load.running():
            wait_until(lambda: load.answered() >= ANSWERS, "requests are served")
        end_services(platform, customers)
        yield Played(platform, customers[0], load)


def bill_of(played: Played) -> Any:
    """What the customer is shown, without the moment up to which it is known."""
    bill = played.platform.hydra("bill", "--account", played.customer.account)
    return {name: value for name, value in bill.items() if name != "as_of"}


def charges(platform: Platform) -> list[dict[str, Any]]:
    return sql(platform, "SELECT * FROM charges FINAL ORDER BY id, payload_hash LIMIT 5000")


def told_to_read_again(platform: Platform) -> None:
    """Answer each stop of the warehouse with what `hydra status` says, until everything is in order and stays so."""
    said = await_told(platform, process_in_trouble("warehouse"), "the warehouse has stopped on purpose")
    while not said.startswith("halted: "):
        said = await_told(platform, process_in_trouble("warehouse"), "the warehouse has stopped on purpose")
    assert "ClickHouse holds it only up to 0" in said
    assert said.endswith("; to go on: hydra resume warehouse --from-start")
    refused = platform.run("resume", "warehouse", check=False)
    assert refused.returncode == 1
    assert "type exactly: hydra resume warehouse --from-start" in refused.stderr
    assert platform.hydra("resume", "warehouse", "--from-start", "--reason", "a disk was lost")["started"]
    await_order(platform)


def test_a_lost_folder_is_made_again_from_kafka(played: Played) -> None:
    platform = played.platform
    compared = compare(platform, played.load)
    assert compared.billed_tokens and compared.billed_seconds
    bill, before = bill_of(played), charges(platform)
    platform.stop()
    shutil.rmtree(platform.home / "clickhouse")

    # It may stop while the platform starts, or once that has started: all else runs.
    up = platform.run("up", "--detach", check=False, timeout_s=UP_WITHIN_S)
    assert up.returncode == 0 or "warehouse stopped on purpose" in up.stderr, up.stderr
    told_to_read_again(platform)
    bills_agree(compare(platform, played.load), compared)
    bills_agree(bill_of(played), bill)
    bills_agree(charges(platform), before)
    answers = sql(platform, "SELECT DISTINCT what, reason FROM v_stops WHERE what != 'stopped' ORDER BY what")
    assert [tuple(row.values()) for row in answers] == [("accepted", "a disk was lost"), ("went_on", "as accepted")]


def test_a_folder_that_is_lost_under_a_running_warehouse_is_seen_at_once(played: Played) -> None:
    platform = played.platform
    # The customer's own service is gone.
    load = Load(platform, [replace(played.customer, services=())], SEED + 1, at_once=3, pause_s=0.1)
    with load.running():
        # Renamed before the kill: what starts next finds nothing.
        (platform.home / "clickhouse").rename(platform.home / "clickhouse.lost")
        kill(platform, "clickhouse")
        told_to_read_again(platform)
        answered = load.answered()
        wait_until(lambda: load.answered() > answered + ANSWERS, "requests are served")
    assert compare(platform, played.load, load).billed_tokens
    assert status(platform)["code"] == 0


async def test_a_clickhouse_put_back_to_an_older_state_stops_a_warehouse_that_lives(
    way: BillingWay, tmp_path: Path
) -> None:
    """It has noted more than ClickHouse holds now; going on would hide what lies between."""
    usages, minutes = requests(300, accounts=40), instance_minutes(60, accounts=40)
    warehouse = way.start("token_charges", "instance_charges", "warehouse")[-1]
    await way.publish(*usages[:100], *minutes[:20])
    await way.settled()
    assert way.server.stop() == 0
    folder, saved = way.server.home / "clickhouse", tmp_path / "saved"
    shutil.copytree(folder, saved, symlinks=True)
    await asyncio.to_thread(way.server.start)
    await way.publish(*usages[100:200], *minutes[20:40])
    await way.settled()
    way.server.kill()
    shutil.rmtree(folder)
    shutil.copytree(saved, folder, symlinks=True)
    await asyncio.to_thread(way.server.start)
    await way.publish(*usages[200:], *minutes[40:])

    said = await stopped_on_purpose(warehouse)
    assert re.search(r"goes on at offset \d+, but ClickHouse holds it only up to \d+", said)
    assert said.count("to go on: hydra resume warehouse --from-start") == 1
    assert (await hydra_resume(way, "warehouse", "--from-start")).returncode == 0
    warehouse.start()
    await way.settled()
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))
    assert await way.clickhouse.query("SELECT count() FROM conflicts") == [(0,)]
