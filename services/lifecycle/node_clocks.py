"""How far each node's wall clock stands from Kafka's, by the heartbeats that it stamps and Kafka stamps again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.clock import Clock
from adapters.clock_drift import DOUBT_S

logger = logging.getLogger(__name__)

NODES_MAX = 1_000
BEATS = 12
"""Of the last so many the one that was under way for the shortest time tells most: a minute as shipped."""
FORGET_AFTER_S = 600.0


@dataclass
class _Node:
    """`leads` are the agent's stamps less Kafka's, in seconds: the clocks' difference less the time on the way."""

    heard_at: float
    leads: deque[float] = field(default_factory=lambda: deque(maxlen=BEATS))
    said: bool = False

    @property
    def drift_s(self) -> float:
        return max(self.leads)


class NodeClocks(Collector):
    """Shows `hydra_node_clock_drift_seconds` of at most NODES_MAX nodes, none that has been silent for long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nodes: dict[str, _Node] = {}

    def heard(self, node: str, sent: datetime, stamped_ms: int) -> None:
        """A heartbeat that the node's agent stamped `sent`, and the broker `stamped_ms` (since 1970)."""
        now = self._clock.monotonic()
        known = self._nodes.get(node)
        if known is None:
            self._forget_silent(now)
            if len(self._nodes) >= NODES_MAX:
                return
            known = self._nodes[node] = _Node(now)
        known.heard_at = now
        known.leads.append(sent.timestamp() - stamped_ms / 1000)
        wrong = abs(known.drift_s) > DOUBT_S
        if wrong is not known.said:
            known.said = wrong
            text = "a node's wall clock is wrong; set it right" if wrong else "a node's wall clock is right again"
            logger.warning(text, extra={"node": node, "drift_s": round(known.drift_s, 3)})

    def _forget_silent(self, now: float) -> None:
        self._nodes = {name: node for name, node in self._nodes.items() if now - node.heard_at < FORGET_AFTER_S}

    def collect(self) -> Iterator[Metric]:
        """For /metrics."""
        self._forget_silent(self._clock.monotonic())
        family = GaugeMetricFamily(
            "hydra_node_clock_drift_seconds",
            "By how much a node's wall clock is ahead of Kafka's; below 0: behind",
            labels=("node",),
        )
        for name, node in self._nodes.items():
            family.add_metric((name,), node.drift_s)
        yield family
