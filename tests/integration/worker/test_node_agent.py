"""The node agent, its engines and its heartbeats, as real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from tests.integration.worker.node_agent import DEADLINE_S, Lifecycle, NodeAgent, new_instance, until

Agents = Callable[..., NodeAgent]


async def started(agent: NodeAgent) -> str:
    """Start the agent and return its node once it follows placements."""
    agent.start()
    path = agent.home / "worker" / "node.json"
    await until(f"node identity; log: {agent.log[-2000:]}", path.exists)
    return agent.node()


async def test_a_placement_becomes_a_ready_engine_and_its_heartbeats(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    await lifecycle.until_state(instance, "ready")
    await until("two seconds ready", lambda: lifecycle.periods(instance).get((1, 1), 0) >= 2)

    last = lifecycle.last(instance)
    assert last is not None and last.node == node and last.epoch == 1 and last.address is not None
    assert [heartbeat.beat for heartbeat in lifecycle.heard(instance)] == list(range(1, last.beat + 1))
    assert lifecycle.states(instance)[0] == (1, "loading")
    assert lifecycle.states(instance)[-1] == (1, "ready")
    assert agent.proven(instance)[(1, 1)] >= 2
    async with httpx.AsyncClient(base_url=f"http://{last.address}", trust_env=False) as client:
        key = {"Authorization": f"Bearer {agent.key(instance, 1)}"}
        assert (await client.get("/v1/models", headers=key)).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
    assert any(instance in heartbeat.instances for heartbeat in lifecycle.nodes if heartbeat.node == node)


async def test_a_killed_engine_starts_again_in_a_new_epoch(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(), new_instance()
    await lifecycle.place(instance, await started(agent))
    await until("a second ready", lambda: lifecycle.periods(instance).get((1, 1), 0) >= 1)
    os.kill(agent.engine_pid(instance), signal.SIGKILL)
    await lifecycle.until_state(instance, "ready", epoch=2)

    assert lifecycle.states(instance) == [
        (1, "loading"),
        (1, "ready"),
        (1, "failed"),
        (2, "loading"),
        (2, "ready"),
    ]
    failed = next(heartbeat for heartbeat in lifecycle.heard(instance) if heartbeat.state == "failed")
    assert failed.detail == "the engine was ended by signal 9"
    assert [period.closed for period in failed.periods] == [True]
    assert failed.periods[0].ready_seconds == lifecycle.periods(instance)[(1, 1)]
    addresses = {heartbeat.address for heartbeat in lifecycle.heard(instance) if heartbeat.state == "ready"}
    assert len(addresses) == 2


async def test_an_engine_that_stands_still_is_not_ready_until_it_answers_again(
    new_agent: Agents, lifecycle: Lifecycle
) -> None:
    agent, instance = new_agent(check_timeout_seconds="5"), new_instance()
    await lifecycle.place(instance, await started(agent))
    await lifecycle.until_state(instance, "ready")
    pid = agent.engine_pid(instance)
    os.kill(pid, signal.SIGSTOP)
    try:
        standing = await lifecycle.until_state(instance, "not_ready")
    finally:
        os.kill(pid, signal.SIGCONT)
    again = await lifecycle.until_state(instance, "ready")

    assert standing.periods[-1].closed
    assert again.epoch == 1
    assert (again.periods[-1].number, again.periods[-1].closed) == (standing.periods[-1].number + 1, False)


async def test_acknowledged_periods_are_told_no_more(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(check_timeout_seconds="5"), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    await lifecycle.until_state(instance, "ready")
    pid = agent.engine_pid(instance)
    os.kill(pid, signal.SIGSTOP)
    await lifecycle.until_state(instance, "not_ready")
    os.kill(pid, signal.SIGCONT)
    again = await lifecycle.until_state(instance, "ready")
    assert len(again.periods) >= 2
    await lifecycle.place(instance, node, acknowledged_epoch=1, acknowledged_period=again.periods[-2].number)

    def told() -> list[int]:
        last = lifecycle.last(instance)
        return [] if last is None else [period.number for period in last.periods]

    await until("only the open period told", lambda: told() == [again.periods[-1].number])


async def streamed(address: str, key: str, tokens: int) -> str:
    """A streamed answer of so many tokens, whole."""
    body = {"model": "test", "prompt": "count", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=60) as client:
        answer = await client.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        return answer.text


async def test_a_drain_closes_the_period_and_lets_streams_finish(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(simulated_tokens_per_second="10"), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    ready = await lifecycle.until_state(instance, "ready")
    assert ready.address is not None
    stream = asyncio.create_task(streamed(ready.address, agent.key(instance, 1), 40))
    await until("the stream runs", lambda: (last := lifecycle.last(instance)) is not None and last.periods)
    until_instant = datetime.now(UTC) + timedelta(seconds=60)
    await lifecycle.place(instance, node, wanted="draining", drain_until=until_instant)
    draining = await lifecycle.until_state(instance, "draining")
    assert not stream.done()
    ended = await lifecycle.until_state(instance, "ended")

    assert draining.periods[-1].closed
    assert ended.periods == draining.periods
    assert (await stream).rstrip().endswith("data: [DONE]")
    assert datetime.now(UTC) < until_instant
    assert agent.record(instance).process is None


async def test_a_drain_ends_at_its_bound(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(simulated_tokens_per_second="0.5"), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    ready = await lifecycle.until_state(instance, "ready")
    assert ready.address is not None
    stream = asyncio.create_task(streamed(ready.address, agent.key(instance, 1), 4000))
    await asyncio.sleep(1)
    bound = datetime.now(UTC) + timedelta(seconds=3)
    await lifecycle.place(instance, node, wanted="draining", drain_until=bound)
    ended = await lifecycle.until_state(instance, "ended")

    assert ended.sent >= bound
    assert isinstance((await asyncio.gather(stream, return_exceptions=True))[0], httpx.TransportError)


async def test_what_has_ended_is_told_until_lifecycle_knows_and_forgotten_with_its_placement(
    new_agent: Agents, lifecycle: Lifecycle
) -> None:
    agent, instance = new_agent(), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node, wanted="draining")
    first = await lifecycle.until_state(instance, "ended")
    assert (first.epoch, first.periods) == (1, ())
    await until("told again", lambda: len(lifecycle.heard(instance)) >= 3)
    await lifecycle.place(instance, node, wanted="ended")
    await until("retired", lambda: agent.record(instance).life == "ended_reported")
    await lifecycle.remove(instance)
    await until("forgotten", lambda: not (agent.home / "worker" / "instances" / f"{instance}.json").exists())


async def test_two_instances_run_side_by_side(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, first, second = new_agent(), new_instance(), new_instance()
    node = await started(agent)
    await lifecycle.place(first, node)
    await lifecycle.place(second, node)
    one, two = await lifecycle.until_state(first, "ready"), await lifecycle.until_state(second, "ready")
    assert one.address != two.address
    os.kill(agent.engine_pid(first), signal.SIGKILL)
    await lifecycle.until_state(first, "ready", epoch=2)
    assert lifecycle.states(second) == [(1, "loading"), (1, "ready")]


async def test_placements_of_other_nodes_are_not_run(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, other, own = new_agent(), new_instance(), new_instance()
    node = await started(agent)
    await lifecycle.place(other, "n-000000000000")
    await lifecycle.place(own, node)
    await lifecycle.until_state(own, "ready")
    assert lifecycle.heard(other) == []


async def test_a_model_that_the_node_does_not_know_fails_and_says_so(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(), new_instance()
    await lifecycle.place(instance, await started(agent), model="unheard-of")
    failed = await lifecycle.until_state(instance, "failed")
    assert failed.detail == "the model unheard-of is not in this node's catalogue"
    assert failed.periods == ()


async def test_an_agent_that_starts_without_kafka_says_that_it_starts_no_engine(
    new_agent: Agents, unused_port: Callable[[], int]
) -> None:
    agent = new_agent(f"127.0.0.1:{unused_port()}")
    await started(agent)
    async with httpx.AsyncClient(base_url=agent.url, trust_env=False) as client:

        async def reason() -> str:
            try:
                answer = await client.get("/health/ready")
            except httpx.HTTPError:
                return ""
            assert answer.status_code == 503
            return str(answer.json()["reason"])

        async with asyncio.timeout(DEADLINE_S):
            while not await reason():
                await asyncio.sleep(0.1)
        assert "no engine is started before placements are known" in await reason()
