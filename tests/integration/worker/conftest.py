"""A node agent and lifecycle's side of its topics, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from adapters.kafka.topics import create_topics
from tests.integration.worker.node_agent import Lifecycle, NodeAgent


@pytest.fixture
def new_agent(
    tmp_path: Path, project_root: Path, kafka: str, unused_port: Callable[[], int]
) -> Iterator[Callable[..., NodeAgent]]:
    """Makes node agents that are stopped when the test ends."""
    agents: list[NodeAgent] = []

    def new(bootstrap: str = kafka, **settings: str) -> NodeAgent:
        home = tmp_path / f"home-{len(agents)}"
        home.mkdir()
        agents.append(NodeAgent(home, project_root, bootstrap, unused_port(), **settings))
        return agents[-1]

    yield new
    for agent in agents:
        agent.stop()


@pytest.fixture
async def lifecycle(kafka: str) -> AsyncIterator[Lifecycle]:
    """Connected to the Kafka that tests share."""
    await create_topics(kafka)
    lifecycle = Lifecycle(kafka)
    await lifecycle.start()
    yield lifecycle
    await lifecycle.stop()
