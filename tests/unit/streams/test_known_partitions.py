"""Partitions of `hydra.spend` are given out also while Kafka does not tell of the topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiokafka.cluster import ClusterMetadata

from schemas.topics import SPEND
from streams.live_spend.faust_app import live_spend_app
from streams.live_spend.settings import LiveSpendSettings
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics


async def nothing(partitions: frozenset[int]) -> None:
    raise AssertionError("no group is joined here")


@pytest.fixture
async def assignor(tmp_path: Path) -> Any:
    view, metrics = SpendView(ZoneInfo("UTC")), StreamMetrics("live_spend")
    app = live_spend_app("127.0.0.1:1", tmp_path, LiveSpendSettings(), view, metrics, nothing)
    app.finalize()
    return app.assignor


@pytest.mark.parametrize("members", [1, 2, SPEND.partitions + 1])
async def test_every_partition_is_given_to_one_member(assignor: Any, members: int) -> None:
    knows_nothing = ClusterMetadata()
    joined = {f"member-{number}": assignor.metadata({SPEND.name}) for number in range(members)}
    given = assignor.assign(knows_nothing, joined)
    numbers = [number for one in given.values() for _, partitions in one.assignment for number in partitions]
    assert sorted(numbers) == list(range(SPEND.partitions))
