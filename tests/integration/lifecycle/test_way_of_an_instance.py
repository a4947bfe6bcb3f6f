"""Deploy, place, hear, bill, drain, end, on real Kafka and both databases."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from domain.catalogue import Catalogue, SharedModel
from schemas.heartbeats import ReadyPeriod
from services.lifecycle.records import find_service
from services.lifecycle.running import Lifecycle
from tests.integration.lifecycle.deploying import delete, deploy, has_status, placed, scale, start, stop
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published, eventually

Starting = Callable[..., AbstractAsyncContextManager[Lifecycle]]


def ready_for(began: datetime, seconds: int, *, closed: bool = False, number: int = 1) -> ReadyPeriod:
    return ReadyPeriod(number=number, began=began, ready_seconds=seconds, closed=closed)


async def test_an_instance_is_placed_heard_billed_drained_and_ended(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        assert published.placements(path)[name].node == agent.node
        began = datetime.now(UTC) - timedelta(seconds=100)
        await agent.says(name, "loading", sent=began)
        await agent.says(name, "ready", ready_for(began, 7), sent=began + timedelta(seconds=7))
        state = await eventually(lambda: (found := published.deployment(path)) and found.endpoints and found)
        assert state.status == "running"
        assert [(e.instance, e.epoch, e.address) for e in state.endpoints] == [(name, 1, "127.0.0.1:31000")]
        start_s = int(began.timestamp())
        await eventually(lambda: published.intervals(name) == [(start_s, start_s + 7)])

        await delete(one, account)
        await eventually(lambda: published.placements(path)[name].wanted == "draining")
        gone = await eventually(lambda: (found := published.deployment(path)) and found.status == "deleting" and found)
        assert gone.endpoints == () and gone.instances_wanted == 0
        await agent.says(name, "draining", ready_for(began, 9, closed=True), sent=began + timedelta(seconds=9))
        after = datetime.now(UTC) + timedelta(seconds=5)
        await agent.says(name, "ended", ready_for(began, 90, closed=True), sent=after)
        await has_status(published, path, "deleted")
    assert published.intervals(name) == [(start_s, start_s + 7), (start_s + 7, start_s + 9)]
    changes = published.changes(name)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert [change.state for change in changes] == ["placed", "starting", "ready", "draining", "draining", "ended"]
    final = published.placements(path)[name]
    assert final.wanted == "ended" and (final.acknowledged_epoch, final.acknowledged_period) == (1, 1)


async def test_scaling_adds_and_takes_away_and_what_drains_too_long_is_ended(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (first,) = await placed(published, path)
        await agent.says(first, "ready", ready_for(datetime.now(UTC), 1))
        await has_status(published, path, "running")
        await scale(one, account, "+2")
        added = [name for name in await placed(published, path, 3) if name != first]
        await has_status(published, path, "degraded")
        await agent.says(added[0], "ready", ready_for(datetime.now(UTC), 1))
        await eventually(lambda: (found := published.deployment(path)) and len(found.endpoints) == 2)
        await scale(one, account, "1")
        await eventually(lambda: published.placements(path)[added[0]].wanted in ("draining", "ended"))
        # Never reported by an agent: nothing that anybody waits for.
        assert published.placements(path)[added[1]].wanted == "ended"
        await eventually(lambda: published.placements(path)[added[0]].wanted == "ended")
        await has_status(published, path, "running")
        assert published.placements(path)[first].wanted == "running"


async def test_a_stopped_service_runs_again_with_its_replicas_on_new_instances(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region, "2")
        before = await placed(published, path, 2)
        await stop(one, account)
        await has_status(published, path, "stopped")
        await start(one, account)
        after = await placed(published, path, 2)
        assert not set(before) & set(after)
        await has_status(published, path, "deploying")


async def test_without_room_it_waits_and_says_why_and_goes_on_when_a_node_comes(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    agent.gpus = 1
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region, "2")
        await placed(published, path, 1)

        async def reason() -> str | None:
            async with one.storage.reading() as session:
                record = await find_service(session, account, "test")
                assert record is not None
                return record.service.reason

        async def says_full() -> bool:
            return "full" in (await reason() or "")

        await eventually(says_full)
        agent.gpus = 2
        await agent.says_it_lives()
        await placed(published, path, 2)

        async def says_nothing() -> bool:
            return await reason() is None

        await eventually(says_nothing)


async def test_an_engine_that_never_starts_is_given_up_with_its_reason_and_the_next_try_waits(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
        for epoch in (1, 2, 3):
            await agent.says(name, "loading", epoch=epoch)
            await agent.says(name, "failed", epoch=epoch, detail="the model's files are missing")
        ended = await eventually(lambda: next((c for c in published.changes(name) if c.state == "draining"), None))
        assert ended.reason is not None and "the model's files are missing" in ended.reason
        assert published.intervals(name) == []
        await agent.says(name, "ended", epoch=3)
        await eventually(lambda: published.changes(name)[-1].state == "ended")
        (other,) = await placed(published, path, but=(name,))
        for epoch in (1, 2, 3):
            await agent.says(other, "failed", epoch=epoch, detail="the model's files are missing")
        await has_status(published, path, "failed")


async def test_the_platforms_first_start_deploys_the_shared_models_once(
    lifecycle: Starting, published: Published, region: str, catalogue: Catalogue
) -> None:
    shared_one = SharedModel(model="shared-model", region=region, spec="one", replicas=1)
    catalogue = replace(catalogue, shared_at_first_start=(shared_one,))
    async with lifecycle(catalogue) as one:
        async with one.storage.deciding() as session:
            assert await one.commands.deploy_shared_once(session) == 0

        def shared() -> list[str]:
            return sorted({s.service_id for s in published.deployments() if s.region == region})

        (service_id,) = await eventually(shared)
        state = published.deployment_messages(service_id)[-1]
        assert (state.account, state.access_path, state.billing) == ("public", "public/shared-model", "token")
    before = len(published.deployment_messages(service_id))
    async with lifecycle(catalogue):
        await eventually(lambda: len(published.deployment_messages(service_id)) > before)
        assert shared() == [service_id]


async def test_current_state_is_published_again_at_start_with_the_version_it_has(
    lifecycle: Starting, agent: ScriptedAgent, published: Published, account: str, region: str
) -> None:
    path = f"{account}/test"
    async with lifecycle() as one:
        await agent.says_it_lives()
        await deploy(one, account, region)
        (name,) = await placed(published, path)
    state = published.deployment(path)
    assert state is not None
    before = len(published.deployment_messages(state.service_id)), len(published.placement_messages(name))
    async with lifecycle():
        await eventually(lambda: len(published.deployment_messages(state.service_id)) > before[0])
        await eventually(lambda: len(published.placement_messages(name)) > before[1])
    assert published.deployment_messages(state.service_id)[-1] == state
    assert published.placement_messages(name)[-1] == published.placement_messages(name)[before[1] - 1]
