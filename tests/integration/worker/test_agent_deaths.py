"""What is left when the node agent, its engines or Kafka die, and that no proven ready second is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from adapters.kafka.topics import create_topics
from domain import billable_time
from tests.integration.worker.node_agent import Lifecycle, NodeAgent, new_instance, until
from tests.servers.child_process import end_with_parent
from tests.servers.kafka import new_kafka

Agents = Callable[..., NodeAgent]


async def started(agent: NodeAgent) -> str:
    """Start the agent and return its node."""
    agent.start()
    await until("node identity", (agent.home / "worker" / "node.json").exists)
    return agent.node()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_the_agents_death_loses_no_second_and_leaves_no_engine(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    await until("two seconds ready", lambda: lifecycle.periods(instance).get((1, 1), 0) >= 2)
    engine = agent.engine_pid(instance)
    agent.kill()
    kept = agent.record(instance).periods[0].ready_seconds
    agent.start()
    await lifecycle.until_state(instance, "ready", epoch=2)

    assert not alive(engine)
    assert agent.node() == node
    assert lifecycle.periods(instance)[(1, 1)] == kept
    assert kept >= 2
    # Lifecycle hears nothing of an epoch once it has heard of a later one.
    epochs = [heartbeat.epoch for heartbeat in lifecycle.heard(instance)]
    assert epochs == sorted(epochs)
    last_of_first = [heartbeat for heartbeat in lifecycle.heard(instance) if heartbeat.epoch == 1][-1]
    assert (last_of_first.state, last_of_first.periods[0].closed) == ("failed", True)
    beats = [heartbeat.beat for heartbeat in lifecycle.heard(instance) if heartbeat.epoch == 1]
    assert len(beats) == len(set(beats))


async def test_an_engine_whose_agent_died_goes_by_itself(new_agent: Agents, lifecycle: Lifecycle) -> None:
    agent, instance = new_agent(), new_instance()
    await lifecycle.place(instance, await started(agent))
    await lifecycle.until_state(instance, "ready")
    engine = agent.engine_pid(instance)
    agent.kill()
    await until("the engine is gone", lambda: not alive(engine))


async def test_an_engine_that_does_not_go_by_itself_is_ended_by_the_next_agent(
    new_agent: Agents, lifecycle: Lifecycle
) -> None:
    agent, instance = new_agent(leftover_drain_seconds="0.5"), new_instance()
    await lifecycle.place(instance, await started(agent))
    await lifecycle.until_state(instance, "ready")
    engine = agent.engine_pid(instance)
    os.kill(engine, signal.SIGSTOP)
    agent.kill()
    assert alive(engine)
    agent.start()
    await lifecycle.until_state(instance, "ready", epoch=2)
    assert not alive(engine)


async def test_a_stopped_agent_takes_its_engines_and_tells_of_their_last_second(
    new_agent: Agents, lifecycle: Lifecycle
) -> None:
    agent, instance = new_agent(), new_instance()
    await lifecycle.place(instance, await started(agent))
    await until("a second ready", lambda: lifecycle.periods(instance).get((1, 1), 0) >= 1)
    engine = agent.engine_pid(instance)
    assert agent.terminate() == 0
    assert not alive(engine)
    stopped = await lifecycle.until_state(instance, "not_ready")
    assert stopped.periods[0].closed
    assert agent.proven(instance)[(1, 1)] == stopped.periods[0].ready_seconds
    agent.start()
    await lifecycle.until_state(instance, "ready", epoch=2)
    assert lifecycle.periods(instance)[(1, 1)] == stopped.periods[0].ready_seconds


async def test_an_agent_without_its_folder_is_a_new_node(new_agent: Agents) -> None:
    agent = new_agent()
    node = await started(agent)
    agent.terminate()
    (agent.home / "worker").rename(agent.home / "worker-away")
    assert await started(agent) != node


async def test_a_placement_of_no_instance_silences_no_node(new_agent: Agents, lifecycle: Lifecycle) -> None:
    """Lifecycle refuses a node's heartbeat that names anything else, and would place nothing there any more."""
    agent, instance = new_agent(), new_instance()
    node = await started(agent)
    await lifecycle.place("../x", node)
    await lifecycle.place(instance, node)
    await lifecycle.until_state(instance, "ready")
    await until("its node tells of it", lambda: any(instance in beat.instances for beat in lifecycle.nodes))
    assert all("../x" not in beat.instances for beat in lifecycle.nodes if beat.node == node)
    assert "a placement of no instance is left out" in agent.log


async def test_two_agents_cannot_share_a_folder(new_agent: Agents) -> None:
    first = new_agent()
    await started(first)
    second = new_agent(folder=str(first.home / "worker"))
    second.start()
    await until("the second one gives up", lambda: "HYDRA_WORKER_FOLDER" in second.log)
    assert second.exit_code() == 1
    assert len(second.log.splitlines()) == 1


async def test_engines_go_on_while_kafka_is_away_and_all_is_told_in_order_afterwards(
    new_agent: Agents, tmp_path: Path
) -> None:
    server = new_kafka(tmp_path / "own-kafka")
    server.start(before_exec=end_with_parent)
    lifecycle = Lifecycle(server.node.bootstrap)
    try:
        await create_topics(server.node.bootstrap)
        agent, instance = new_agent(server.node.bootstrap), new_instance()
        await lifecycle.start()
        await lifecycle.place(instance, await started(agent))
        await lifecycle.until_state(instance, "ready")
        server.stop()
        await until("a period proven without Kafka", lambda: agent.record(instance).periods[0].ready_seconds >= 3)
        await until("Kafka's absence noticed", lambda: "heartbeats cannot leave" in agent.log)
        assert (await agent.ready())[0] == 503
        os.kill(agent.engine_pid(instance), signal.SIGKILL)
        await until("a new engine without Kafka", lambda: agent.record(instance).epoch == 2)
        await until("ready without Kafka", lambda: agent.record(instance).state == "ready")
        proven = agent.record(instance).finished[-1].periods[0].ready_seconds
        server.start(before_exec=end_with_parent)
        await lifecycle.until_state(instance, "ready", epoch=2)

        assert lifecycle.periods(instance)[(1, 1)] == proven
        epochs = [heartbeat.epoch for heartbeat in lifecycle.heard(instance)]
        assert epochs == sorted(epochs)
        assert not agent.record(instance).finished
        # aiokafka, left alone, writes thousands of lines a second while a partition has no leader.
        assert len(agent.log.splitlines()) < 2_000
        agent.stop()
    finally:
        await lifecycle.stop()
        server.kill()


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_billed_is_what_was_proven_to_the_second(
    new_agent: Agents, lifecycle: Lifecycle, seed: int
) -> None:
    """Engines and agents die in any order; the bill by domain/billable_time.py equals the agent's own log."""
    random = Random(seed)
    agent, instance = new_agent(leftover_drain_seconds="0.5"), new_instance()
    node = await started(agent)
    await lifecycle.place(instance, node)
    for round_ in range(5):
        ready = await lifecycle.until_state(instance, "ready")
        await asyncio.sleep(random.uniform(0.5, 2.5))
        match random.choice(("engine killed", "engine stands still", "agent killed", "agent stopped")):
            case "engine killed":
                os.kill(agent.engine_pid(instance), signal.SIGKILL)
            case "engine stands still":
                pid = agent.engine_pid(instance)
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(random.uniform(0.1, 1.0))
                os.kill(pid, signal.SIGKILL)
            case "agent killed":
                agent.kill()
                agent.start()
            case _:
                agent.terminate()
                agent.start()
        epoch = ready.epoch + 1
        await until(f"round {round_}", lambda epoch=epoch: (last := lifecycle.last(instance)) and last.epoch >= epoch)
    await lifecycle.until_state(instance, "ready")
    await lifecycle.place(instance, node, wanted="draining")
    await lifecycle.until_state(instance, "ended")

    meter, billed = billable_time.Meter(), 0
    ends = []
    for heartbeat in lifecycle.heard(instance):
        meter = billable_time.heard(meter, heartbeat)
        if random.random() < 0.3:
            meter, intervals = billable_time.prove(meter)
            ends += [one.interval for one in intervals]
    meter, intervals = billable_time.prove(meter)
    ends += [one.interval for one in intervals]
    billed = sum(int((one.billable_until - one.billable_from).total_seconds()) for one in ends)
    assert billed == sum(agent.proven(instance).values()) > 0
    assert all(one.billable_until <= after.billable_from for one, after in pairwise(ends))
    assert not any(one.start_moved for one in ends)
