"""Two processors a group: one stands still longer than its session, comes back as a zombie, and the other is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import islice

import pytest

from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed
from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.traffic import endless_instance_minutes, endless_requests
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.stream import StreamProcess

pytestmark = pytest.mark.timeout(1800)

NAMES = ("token_charges", "instance_charges", "warehouse", "live_spend")
ROUNDS = int(os.environ.get("HYDRA_FAULTS_REBALANCES", "1"))
# Batches so small that a burst is many of them; the warehouse takes a tenth of a second for each as it is. The shortest
# session that Kafka takes.
SLOW = {
    name: {"session_timeout_s": "6", "lag_every_s": "0.1", "batch_records_max": "20" if name == "warehouse" else "5"}
    for name in NAMES
}
BURST = 200
CAUGHT_WITHIN_S = 180
EVENTS = "hydra_stream_events_total"
STALE = "batch not committed: its partitions have moved"


async def as_the_oracle_says(way: BillingWay, published: list[TokensUsed | InstanceChanged]) -> None:
    usages = [one for one in published if isinstance(one, TokensUsed)]
    minutes = [one for one in published if isinstance(one, InstanceChanged)]
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))
    assert await way.clickhouse.query("SELECT count() FROM conflicts") == [(0,)]
    await way.await_balances("every balance is what ClickHouse has")


class Supply:
    """Messages without end, so that nobody has done its work when it leaves; `published` is what came of it."""

    def __init__(self, way: BillingWay) -> None:
        self.published: list[TokensUsed | InstanceChanged] = []
        self._way = way
        self._usages = endless_requests(accounts=40)
        self._minutes = endless_instance_minutes(accounts=40)

    async def replenish(self, name: str) -> None:
        """See that this group has a burst of messages before it."""
        if await self._way.lag(name) >= BURST:
            return
        half = BURST // 2
        burst = [*islice(self._usages, half), *islice(self._minutes, half)]
        self.published += burst
        await self._way.publish(*burst)


async def caught_at_work(process: StreamProcess, way: BillingWay, supply: Supply) -> None:
    """Stop it where it stands: it has taken up more just now, and its group has not committed all that there is.

    Every message before live_spend comes of a batch of the warehouse; it commits nothing itself.
    """
    group = "warehouse" if process.name == "live_spend" else process.name
    before = await asyncio.to_thread(process.metric, EVENTS)
    async with asyncio.timeout(CAUGHT_WITHIN_S):
        while True:
            for one in way.processes:
                assert not one.has_ended(), one.log_file.read_text()[-2000:]
            await supply.replenish(group)
            if await asyncio.to_thread(_is_at_work, process, before):
                os.kill(process.pid, signal.SIGSTOP)
                if await way.lag(group) > 0:
                    return
                os.kill(process.pid, signal.SIGCONT)


def _is_at_work(process: StreamProcess, before: float) -> bool:
    """Whether it has taken up more, and, but for what commits nothing, has messages that it has not committed."""
    taken_up = process.metric(EVENTS) > before
    return taken_up and (process.name == "live_spend" or process.metric("hydra_stream_lag_messages") > 0)


async def leave_while_at_work(process: StreamProcess, how: signal.Signals, way: BillingWay, supply: Supply) -> None:
    await caught_at_work(process, way, supply)
    os.kill(process.pid, how)
    os.kill(process.pid, signal.SIGCONT)
    code = await asyncio.to_thread(process.wait)
    assert code == (0 if how == signal.SIGTERM else -how), process.log_file.read_text()[-2000:]


async def test_zombies_of_every_group_come_back_and_the_others_die(way: BillingWay) -> None:
    supply = Supply(way)
    zombies = [way.process(name, **SLOW[name]) for name in NAMES]
    others = [way.process(name, **SLOW[name]) for name in NAMES]
    for process in (*zombies, *others):
        process.spawn()
    for process in (*zombies, *others):
        await asyncio.to_thread(process.wait_until_ready)
    for process in zombies:
        await caught_at_work(process, way, supply)
    # Everything is processed while they stand still: Kafka has given their partitions to the others.
    await way.settled()
    await way.await_balances("the other live_spend has all partitions")

    # They come back in the middle of what they did, write it once more, and commit none of it.
    for process in zombies:
        os.kill(process.pid, signal.SIGCONT)
    for process in zombies:
        await works_again(process, way, supply)
    assert any(STALE in process.log_file.read_text() for process in zombies)
    for process in others:
        process.kill()
    await supply.replenish("token_charges")
    await way.settled()
    await as_the_oracle_says(way, supply.published)
    for process in zombies:
        assert process.stop() == 0, process.log_file.read_text()[-2000:]
        assert "Traceback" not in process.log_file.read_text()


async def works_again(process: StreamProcess, way: BillingWay, supply: Supply) -> None:
    """Wait until one that came back is given partitions again: it takes up more than it can have had in its hands."""
    in_hand = 0.0

    async def has_taken_up_more() -> bool:
        nonlocal in_hand
        await supply.replenish("warehouse" if process.name == "live_spend" else process.name)
        taken_up = await asyncio.to_thread(process.metric, EVENTS)
        in_hand = in_hand or taken_up
        return taken_up > in_hand + BURST

    await eventually(has_taken_up_more, f"{process.name} is a member again")


async def test_groups_that_rebalance_again_and_again_lose_and_double_nothing(way: BillingWay) -> None:
    """One member of each group leaves and comes again, while batches are in flight."""
    supply = Supply(way)
    stay = [way.process(name, **SLOW[name]) for name in NAMES]
    come_and_go = [way.process(name, **SLOW[name]) for name in NAMES]
    for process in (*stay, *come_and_go):
        process.spawn()
    for process in stay:
        await asyncio.to_thread(process.wait_until_ready)
    for how in (signal.SIGTERM, signal.SIGKILL) * ROUNDS:
        for process in come_and_go:
            await asyncio.to_thread(process.wait_until_ready)
        for process in come_and_go:
            await leave_while_at_work(process, how, way, supply)
            process.spawn()
    await way.settled()
    await as_the_oracle_says(way, supply.published)
