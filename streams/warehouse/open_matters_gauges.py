"""Shows on /metrics, and in a word for `hydra status`, what waits for a person.

Counters alone forget at a restart that something is parked.
"""

from __future__ import annotations

import math
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.open_matters import open_matters
from schemas.parked import ParkedReason

PROCESSORS = ("token_charges", "instance_charges", "warehouse")


class OpenMattersGauges:
    """`count` asks ClickHouse; in between, and while it is away, the gauges keep what they showed."""

    def __init__(self, clickhouse: ClickHouse, registry: CollectorRegistry) -> None:
        self._clickhouse = clickhouse
        self._parked = Gauge(
            "hydra_parked_messages",
            "Parked messages that were not replayed, in all",
            ["processor", "reason"],
            registry=registry,
        )
        self._conflicts = Gauge("hydra_conflicts", "Ids that have two hashes, in all", registry=registry)
        # 0 would say that there are none, and the first count after a restart that all of them are new.
        self._conflicts.set(math.nan)
        self.note = ""

    async def count(self) -> None:
        """Raises Unavailable."""
        found = await open_matters(self._clickhouse)
        for processor in PROCESSORS:
            for reason in get_args(ParkedReason):
                self._parked.labels(processor, reason).set(found.parked.get((processor, reason), 0))
        self._conflicts.set(found.conflicts)
        self.note = _note(sum(found.parked.values()), found.conflicts)


def _note(parked: int, conflicts: int) -> str:
    said = []
    if parked:
        said.append(f"parked messages wait for you: {parked} (hydra parked)")
    if conflicts:
        said.append(f"ids with two contents: {conflicts} (view conflicts)")
    return "; ".join(said)
