"""At rest every balance is what ClickHouse has, to the last digit, whatever happened to live_spend."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.billing_events import usage
from tests.builders.traffic import instance_minutes, requests
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.stream import StreamProcess


async def test_balances_are_rebuilt_after_a_kill_and_the_loss_of_the_data_folder(way: BillingWay) -> None:
    way.start("token_charges", "instance_charges", "warehouse")
    (live,) = way.start("live_spend")
    usages, minutes = requests(800), instance_minutes(40)
    await way.publish(*usages[:400], *minutes)
    await way.settled()
    await way.await_balances("balances are stated")
    # Faust commits every 2.8 s. Had it anything to commit, the next start would go on behind it.
    await asyncio.sleep(4)
    live.kill()
    await way.publish(*usages[400:])
    await way.settled()
    shutil.rmtree(way.server.home / "live_spend", ignore_errors=True)

    way.start("live_spend")
    await way.await_balances("balances are rebuilt")
    totals = {a: Fraction(b.spent_total["CNY"]) for a, b in (await way.balances()).items()}
    bills_agree(totals, bill_oracle.spent(usages, minutes))


async def test_balances_survive_a_rebalance_and_a_replay(way: BillingWay) -> None:
    warehouse = way.start("token_charges", "instance_charges", "warehouse")[-1]
    first, second = way.start("live_spend", "live_spend")
    usages = requests(1_500, accounts=40)
    await way.publish(*usages[:700])
    await eventually(lambda: _has_worked(first), "the first has stated balances")
    first.kill()
    await way.publish(*usages[700:])
    await way.settled()
    await way.await_balances("the other worker has taken over")

    # A replay states all totals again, below offsets that were stated before.
    assert warehouse.stop() == 0
    await way.rewind("warehouse")
    way.start("warehouse", "live_spend")
    await way.settled()
    await way.await_balances("a replay changes no balance")
    assert second.stop() == 0
    assert "Traceback" not in second.log_file.read_text()
    more = requests(100, first=5_000, accounts=40)
    await way.publish(*more)
    await way.settled()
    await way.await_balances("the last worker has all partitions")


async def _has_worked(process: StreamProcess) -> bool:
    return await asyncio.to_thread(process.metric, "hydra_stream_events_total") > 0


async def test_windows_hold_what_was_spent_in_them(way: BillingWay) -> None:
    way.start("token_charges", "instance_charges", "warehouse", "live_spend")
    now = datetime.now(UTC)
    old = usage(1, ended=datetime(2026, 1, 1, tzinfo=UTC))
    await way.publish(usage(2, ended=now), old)
    await way.settled()
    await way.await_balances("balances are stated")
    (balance,) = (await way.balances()).values()
    one = Decimal("0.0114")
    bills_agree(balance.spent_total, {"CNY": 2 * one})
    assert balance.day <= balance.hour <= datetime.now(UTC)
    # The hour, and even the month, may have turned since.
    assert balance.spent_hour == ({"CNY": one} if balance.hour <= now else {})
    assert balance.spent_day == ({"CNY": one} if balance.day <= now else {})
    assert balance.spent_month == ({"CNY": one} if balance.month <= now else {})
