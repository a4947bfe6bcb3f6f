"""A Kafka of this folder's own: its tests delete topics and publish garbage, which no other test should meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.kafka import running_kafka


@pytest.fixture(scope="package")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address."""
    with running_kafka(tmp_path_factory.mktemp("own-kafka")) as server:
        yield server.node.bootstrap
