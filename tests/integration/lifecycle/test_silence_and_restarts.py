"""What is written off and what is not, and that neither a restart nor a second lifecycle loses or doubles a second."""

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from schemas.heartbeats import InstanceHeartbeat, ReadyPeriod
from services.lifecycle.records import load_nodes
from services.lifecycle.running import Lifecycle
from services.lifecycle.tables import intervals, nodes
from tests.integration.lifecycle.deploying import delete, deploy, has_status, placed
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published, eventually

Starting = Callable[..., AbstractAsyncContextManager[Lifecycle]]


async def test_a_silent_instance_is_written_off_replaced_and_never_billed_again(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    began = datetime.now(UTC) - timedelta(seconds=50)
    start_s = int(began.timestamp())
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        await agent.says(name, "loading")
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=1))
        await has_status(published, path, "running")
    async with lifecycle(write_off_after_s=2):
        lost = await eventually(lambda: next((c for c in published.changes(name) if c.state == "written_off"), None))
        assert lost.reason is not None and "nothing was heard" in lost.reason
        state = await eventually(lambda: (found := published.deployment(path)) and not found.endpoints and found)
        assert state.ever_ready and state.instances_wanted == 1
    async with lifecycle():
        await agent.says_it_lives()
        other = (await placed(published, path))[0]
        assert other != name
        assert published.placements(path)[name].wanted == "ended"
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=40))
        await agent.says(other, "ready", ReadyPeriod(number=1, began=began, ready_seconds=4))
        await eventually(lambda: published.intervals(other))
    assert published.intervals(name) == [(start_s, start_s + 1)]
    assert published.changes(name)[-1].state == "written_off"


async def test_time_proven_but_not_yet_written_is_written_with_the_write_off(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    began = datetime.now(UTC) - timedelta(seconds=50)
    start_s = int(began.timestamp())
    async with lifecycle(interval_s=1_000) as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=1))
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=33))
        await eventually(lambda: published.intervals(name))
    async with lifecycle(write_off_after_s=2, interval_s=1_000):
        await eventually(lambda: published.changes(name)[-1].state == "written_off")
    assert published.intervals(name) == [(start_s, start_s + 1), (start_s + 1, start_s + 33)]


async def test_its_own_absence_writes_nothing_off_and_what_came_meanwhile_is_billed(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    began = datetime.now(UTC) - timedelta(seconds=50)
    start_s = int(began.timestamp())
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=1))
        await eventually(lambda: published.intervals(name))
    await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=9))
    await asyncio.sleep(3)  # longer than the bound below, with no lifecycle there
    async with lifecycle(write_off_after_s=2):
        await eventually(lambda: published.changes(name)[-1].state == "written_off")
    assert published.intervals(name) == [(start_s, start_s + 1), (start_s + 1, start_s + 9)]


async def test_what_drains_and_falls_silent_is_ended_so_that_the_service_can_be_deleted(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        await agent.says(name, "ready", ReadyPeriod(number=1, began=datetime.now(UTC), ready_seconds=1))
        await has_status(published, path, "running")
        await delete(one, account)
    async with lifecycle(write_off_after_s=2):
        await has_status(published, path, "deleted")
    assert published.changes(name)[-1].state == "ended"


def scripted_life(
    agent: ScriptedAgent, name: str, dice: random.Random, began: datetime
) -> tuple[list[InstanceHeartbeat], dict[tuple[int, int], tuple[int, int]]]:
    """Heartbeats of three epochs, and of each period its start and its length in POSIX seconds."""
    beats: list[InstanceHeartbeat] = []
    truth: dict[tuple[int, int], tuple[int, int]] = {}
    clock = began
    for epoch in (1, 2, 3):
        closed: list[ReadyPeriod] = []
        for number in range(1, dice.randint(2, 4)):
            clock += timedelta(seconds=dice.uniform(0.2, 4))
            length = dice.randint(1, 12)
            for seconds in range(0, length + 1, dice.randint(1, 3)):
                period = ReadyPeriod(number=number, began=clock, ready_seconds=seconds)
                sent = clock + timedelta(seconds=seconds)
                beats.append(agent.heartbeat(name, "ready", *closed, period, epoch=epoch, sent=sent))
            closed.append(ReadyPeriod(number=number, began=clock, ready_seconds=length, closed=True))
            truth[epoch, number] = int(clock.timestamp()), length
            clock += timedelta(seconds=length)
            beats.append(agent.heartbeat(name, "not_ready", *closed, epoch=epoch, sent=clock))
    return beats, truth


def as_sent(beats: list[InstanceHeartbeat], dice: random.Random) -> list[InstanceHeartbeat]:
    """A third is lost (an epoch's last never is), some come twice, neighbours of an epoch swap places."""
    last = {one.epoch: one.beat for one in beats}
    kept = [one for one in beats if one.beat == last[one.epoch] or dice.random() > 0.3]
    kept += [one for one in kept if dice.random() < 0.3]
    return sorted(kept, key=lambda one: (one.epoch, one.beat + dice.uniform(0, 4)))


async def test_two_at_once_and_many_restarts_bill_each_second_once_whatever_is_lost_doubled_or_reordered(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    dice = random.Random(7)
    began = datetime.now(UTC) - timedelta(hours=1)
    async with AsyncExitStack() as first:
        one = await first.enter_async_context(lifecycle())
        await first.enter_async_context(lifecycle())
        await agent.says_it_lives()
        await deploy(one, account, region, "2")
        names = await placed(published, path, 2)
        lives = [scripted_life(agent, name, dice, began) for name in names]
        queues = [as_sent(beats, dice) for beats, _ in lives]
        for queue in queues:
            half = len(queue) // 2
            await agent.send(*queue[:half])
    # Both are gone in the middle of it, and come and go while the rest arrives.
    for part in range(3):
        async with lifecycle(), lifecycle():
            for queue in queues:
                half = len(queue) // 2
                third = (len(queue) - half) // 3 + 1
                await agent.send(*queue[half + part * third : half + (part + 1) * third])
    async with lifecycle():
        for name, (_, truth) in zip(names, lives, strict=True):
            total = sum(length for _, length in truth.values())

            def billed(name: str = name) -> int:
                return int(sum(until - start for start, until in published.intervals(name)))

            await eventually(lambda billed=billed, total=total: billed() >= total)
            assert billed() == total
            covered = {second for a, b in published.intervals(name) for second in range(int(a), int(b))}
            assert covered == {s for start, length in truth.values() for s in range(start, start + length)}
            assert all(a[1] <= b[0] for a, b in pairwise(published.intervals(name)))
            changes = published.changes(name)
            sequences = {change.sequence: change for change in changes}
            assert sorted(sequences) == list(range(1, max(sequences) + 1))


async def test_the_database_itself_refuses_an_interval_that_overlaps(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=50)
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, f"{account}/test")
        await agent.says(name, "ready", ReadyPeriod(number=1, began=began, ready_seconds=10))
        await eventually(lambda: published.intervals(name))
        until = began + timedelta(seconds=10)
        row = {"instance": name, "number": 2, "epoch": 1, "period": 1, "sequence": 99}
        follows = {"previous_number": 1, "previous_until": until}
        wrong = [
            # begins inside the one before it
            row
            | follows
            | {"billable_from": until - timedelta(seconds=1), "billable_until": until + timedelta(seconds=5)},
            # names an end that the one before it does not have
            row
            | {"previous_number": 1, "previous_until": began}
            | {"billable_from": began + timedelta(seconds=1), "billable_until": until},
            # is empty
            row | follows | {"billable_from": until, "billable_until": until},
            # claims to be another first one
            row | {"number": 1, "billable_from": until, "billable_until": until + timedelta(seconds=1)},
            # claims to follow nothing
            row | {"billable_from": until, "billable_until": until + timedelta(seconds=1)},
            # a second interval of one event
            row | follows | {"sequence": 2, "billable_from": until, "billable_until": until + timedelta(seconds=1)},
        ]
        sequence = published.changes(name)[-1].sequence
        wrong[-1]["sequence"] = sequence
        for values in wrong:
            with pytest.raises(IntegrityError):
                async with one.storage.deciding() as session:
                    await session.execute(intervals.insert().values(**values))
        # Lengthening what stands is refused as soon as anything follows it.
        right = row | follows | {"billable_from": until, "billable_until": until + timedelta(seconds=1)}
        async with one.storage.deciding() as session:
            await session.execute(intervals.insert().values(**right))
        with pytest.raises(IntegrityError):
            async with one.storage.deciding() as session:
                longer = sa.update(intervals).where(intervals.c.instance == name, intervals.c.number == 1)
                await session.execute(longer.values(billable_until=until + timedelta(seconds=5)))


async def test_a_node_is_forgotten_once_long_silent_and_empty(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    idle = ScriptedAgent(agent.producer, f"n-{secrets.token_hex(6)}", region=f"{region}-b")

    async def known(one: Lifecycle) -> set[str]:
        async with one.storage.reading() as session:
            return {node.node for node in await load_nodes(session)}

    async def lacks(one: Lifecycle, node: str) -> bool:
        return node not in await known(one)

    async def knows(one: Lifecycle, node: str) -> bool:
        return node in await known(one)

    async with lifecycle() as one:
        await agent.says_it_lives()
        await idle.says_it_lives()
        await deploy(one, account, region)
        await placed(published, f"{account}/test")
        await eventually(lambda: knows(one, idle.node))
    async with lifecycle() as one:
        async with one.storage.deciding() as session:
            of_both = nodes.c.node.in_([agent.node, idle.node])
            long_ago = datetime.now(UTC) - timedelta(days=2)
            await session.execute(nodes.update().where(of_both).values(sent=long_ago))
        await eventually(lambda: lacks(one, idle.node))
        assert await knows(one, agent.node), "an instance of it lives"
        await delete(one, account)
        await eventually(lambda: lacks(one, agent.node))
        await idle.says_it_lives()
        await eventually(lambda: knows(one, idle.node))
