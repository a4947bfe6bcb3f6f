"""Sends heartbeats: every few seconds, and at once when an instance has news."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from adapters.clock import Clock
from adapters.errors import Unavailable
from domain import ids
from schemas import codec
from schemas.heartbeats import InstanceHeartbeat, NodeHeartbeat
from schemas.topics import HEARTBEATS, Topic
from services.worker.metrics import WorkerMetrics
from services.worker.readiness_log import ReadinessLog

logger = logging.getLogger(__name__)

SOURCE = "/hydra/worker"
IN_A_ROW_MAX = 8
"""Heartbeats of one instance in one round: those of epochs that are over come before the current one's."""


class Publisher(Protocol):
    """Publishes one message and returns once Kafka has it, else raises Unavailable."""

    async def publish(self, topic: Topic, key: str, value: bytes | None) -> None: ...


class Reported(Protocol):
    """An instance as seen from here: services/worker/instance_report.py."""

    def heartbeat(self) -> InstanceHeartbeat | None: ...

    def acknowledged(self, heartbeat: InstanceHeartbeat) -> None: ...

    @property
    def has_finished(self) -> bool: ...


class HeartbeatSender:
    """One round after the other, so that heartbeats of an instance never overtake each other.

    Nothing is queued: while Kafka is away only the latest of each instance is tried again, and what it says of ready
    periods covers all that was missed.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        readiness: ReadinessLog,
        metrics: WorkerMetrics,
        *,
        every_s: float,
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._readiness = readiness
        self._metrics = metrics
        self._every_s = every_s
        self._news: set[str] = set()
        self._has_news = asyncio.Event()
        self.kafka_answers = False

    def changed(self, instance: str) -> None:
        """Send this instance's heartbeat now."""
        self._news.add(instance)
        self._has_news.set()

    async def run(
        self,
        instances: Callable[[], Mapping[str, Reported]],
        node: Callable[[], NodeHeartbeat],
        after: Callable[[], None],
    ) -> None:
        """Until cancelled. `after` is called after each round."""
        due = self._clock.monotonic()
        while True:
            left_s = due - self._clock.monotonic()
            if left_s > 0 and not self._has_news.is_set():
                await self._sleep(left_s)
                continue
            is_due = left_s <= 0
            if is_due:
                due = self._clock.monotonic() + self._every_s
            news, self._news = self._news, set()
            self._has_news.clear()
            known = instances()
            told = [report for instance, report in known.items() if is_due or instance in news]
            await self.round(told, node() if is_due else None)
            after()

    async def round(self, reports: Iterable[Reported], node: NodeHeartbeat | None) -> None:
        """One heartbeat of each, all at once; what Kafka does not take is said again by the next round."""
        sent = [self._send_instance(report) for report in reports]
        if node is not None:
            sent.append(self._publish(node.node, f"{node.node}-{node.start}-{node.beat}", node))
        outcomes = await asyncio.gather(*sent)
        if outcomes:
            self._say_whether_kafka_answers(all(outcomes))

    async def _send_instance(self, report: Reported) -> bool:
        for _ in range(IN_A_ROW_MAX):
            of_earlier_epoch = report.has_finished
            heartbeat = report.heartbeat()
            if heartbeat is None:
                return True
            id = ids.heartbeat_id(heartbeat.instance, heartbeat.epoch, heartbeat.beat)
            if not await self._publish(heartbeat.instance, id, heartbeat):
                return False
            report.acknowledged(heartbeat)
            self._readiness.acknowledged(heartbeat)
            if not of_earlier_epoch:
                return True
        return True

    async def _publish(self, key: str, id: str, heartbeat: InstanceHeartbeat | NodeHeartbeat) -> bool:
        event = codec.event(heartbeat, id=id, source=SOURCE, subject=key, time=heartbeat.sent)
        try:
            await self._publisher.publish(HEARTBEATS, key, codec.encode(event))
        except Unavailable:
            self._metrics.heartbeats_failed.inc()
            return False
        self._metrics.heartbeats.inc()
        return True

    async def _sleep(self, seconds: float) -> None:
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the news.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_news.wait()

    def _say_whether_kafka_answers(self, answers: bool) -> None:
        if answers != self.kafka_answers:
            logger.info("heartbeats leave" if answers else "heartbeats cannot leave: Kafka does not take them")
        self.kafka_answers = answers
