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
from tests.builders.traffic import endless_instance_minutes, endless_requests, instance_minutes, requests
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.stream import StreamProcess

pytestmark = pytest.mark.timeout(1800)

NAMES = ("token_charges", "instance_charges", "warehouse", "live_spend")
# Small batches, so that many are in flight; the shortest session that Kafka takes.
SMALL = {"batch_records_max": "20", "session_timeout_s": "6"}
ROUNDS = int(os.environ.get("HYDRA_FAULTS_REBALANCES", "1"))
REQUESTS = 2_000
INSTANCES = 200
# Batches so small that a burst is many of them; the warehouse takes a tenth of a second for each as it is.
SLOW = {
    name: SMALL | {"lag_every_s": "0.1"} | ({"batch_records_max": "5"} if name != "warehouse" else {}) for name in NAMES
}
BURST = 200
CAUGHT_WITHIN_S = 180
EVENTS = "hydra_stream_events_total"


def messages() -> list[TokensUsed | InstanceChanged]:
    """Requests and proven minutes in turn, so that every rater is in the middle of many batches."""
    usages, minutes = requests(REQUESTS, accounts=40), instance_minutes(INSTANCES, accounts=40)
    mixed: list[TokensUsed | InstanceChanged] = list(usages)
    for number, minute in enumerate(minutes):
        mixed.insert(number * (REQUESTS // INSTANCES), minute)
    return mixed


async def publish(way: BillingWay, published: list[TokensUsed | InstanceChanged]) -> None:
    for start in range(0, len(published), 100):
        await way.publish(*published[start : start + 100])
        await asyncio.sleep(0.02)


async def as_the_oracle_says(way: BillingWay, published: list[TokensUsed | InstanceChanged]) -> None:
    usages = [one for one in published if isinstance(one, TokensUsed)]
    minutes = [one for one in published if isinstance(one, InstanceChanged)]
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))
    assert await way.clickhouse.query("SELECT count() FROM conflicts") == [(0,)]
    await way.await_balances("every balance is what ClickHouse has")


async def shared(processes: list[StreamProcess]) -> None:
    """Wait until each of them has been given work: partitions are shared out."""
    for process in processes:
        await eventually(lambda process=process: _has_worked(process), f"{process.log_file.name} has worked")


async def _has_worked(process: StreamProcess) -> bool:
    return await asyncio.to_thread(process.metric, EVENTS) > 0


async def test_zombies_of_every_group_come_back_and_the_others_die(way: BillingWay) -> None:
    everything = messages()
    first, second, third = everything[:900], everything[900:1_700], everything[1_700:]
    zombies = [way.process(name, **SMALL) for name in NAMES]
    others = [way.process(name, **SMALL) for name in NAMES]
    for process in (*zombies, *others):
        process.spawn()
    for process in (*zombies, *others):
        await asyncio.to_thread(process.wait_until_ready)

    publishing = asyncio.create_task(publish(way, first))
    await shared([*zombies, *others])
    for process in zombies:
        os.kill(process.pid, signal.SIGSTOP)
    await publishing
    # Everything is processed while they stand still: Kafka has given their partitions to the others.
    await publish(way, second)
    await way.settled()
    await way.await_balances("the other live_spend has all partitions")

    # They come back in the middle of what they did, write it once more, and are refused the commit.
    for process in zombies:
        os.kill(process.pid, signal.SIGCONT)
    publishing = asyncio.create_task(publish(way, third))
    await eventually(lambda: _all_ready(zombies), "the zombies are members again")
    for process in others:
        process.kill()
    await publishing
    await way.settled()
    await as_the_oracle_says(way, everything)
    for process in zombies:
        assert process.stop() == 0, process.log_file.read_text()[-2000:]
        assert "Traceback" not in process.log_file.read_text()


async def _all_ready(processes: list[StreamProcess]) -> bool:
    return all([await asyncio.to_thread(process.is_ready) for process in processes])


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
