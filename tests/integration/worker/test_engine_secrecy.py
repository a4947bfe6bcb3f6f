"""Where an engine's key cannot be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.worker.node_agent import Lifecycle, NodeAgent, new_instance, until


async def test_the_engine_key_is_in_no_command_line_environment_file_or_log(
    new_agent: Callable[..., NodeAgent], lifecycle: Lifecycle
) -> None:
    # As where one file of variables serves all of a machine's processes.
    agent, instance = new_agent(lifecycle_database_url="postgresql://hydra:hush@db/hydra"), new_instance()
    agent.start()
    await until("node identity", (agent.home / "worker" / "node.json").exists)
    await lifecycle.place(instance, agent.node())
    await lifecycle.until_state(instance, "ready")
    key, engine = agent.key(instance, 1).encode(), Path("/proc") / str(agent.engine_pid(instance))

    assert b"simulated_engine" in (engine / "cmdline").read_bytes()
    assert key not in (engine / "cmdline").read_bytes()
    environment = (engine / "environ").read_bytes()
    assert key not in environment
    assert b"PATH=" in environment and b"hush" not in environment and b"HYDRA_WORKER_" not in environment
    files = [path for path in agent.home.rglob("*") if path.is_file()]
    assert agent.home / "logs" / f"engine-{instance}.log" in files
    assert not [path for path in files if key in path.read_bytes()]
    heartbeats = "".join(map(str, lifecycle.heard(instance)))
    assert heartbeats and key.decode() not in heartbeats
