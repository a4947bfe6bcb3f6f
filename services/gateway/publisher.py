"""From the spool to `hydra.usage`: reads what is on disk, sends it, marks it once Kafka has acknowledged it."""

from __future__ import annotations

import asyncio
import logging

from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from schemas import topics
from services.gateway.metrics import Metrics
from services.gateway.spans import RequestSpans
from services.gateway.spool import Spool
from services.gateway.spool_files import END, End, end_of, payloads

logger = logging.getLogger(__name__)

BACK_OFF_S_MAX = 5.0


class Publisher:
    """At least once: after a failure the same bytes are sent again, and readers see one event by its id."""

    def __init__(
        self,
        spool: Spool,
        producer: EventProducer,
        metrics: Metrics,
        *,
        bytes_max: int,
        pause_s: float = 0.05,
        spans: RequestSpans | None = None,
    ) -> None:
        self._spool = spool
        self._producer = producer
        self._metrics = metrics
        self._bytes_max = bytes_max
        self._pause_s = pause_s
        self._spans = spans

    async def run(self) -> None:
        """Publish for ever; with Kafka away, try again with back-off."""
        back_off_s = 0.2
        while True:
            await self._spool.written.wait()
            self._spool.written.clear()
            try:
                if await self.publish_some():
                    self._spool.written.set()  # perhaps there is more
                back_off_s = 0.2
                await asyncio.sleep(self._pause_s)  # let a batch gather
            except Unavailable as error:
                self._metrics.publish_failures += 1
                logger.warning("usage waits in the spool", extra={"cause": str(error)})
                self._spool.written.set()
                await asyncio.sleep(back_off_s)
                back_off_s = min(back_off_s * 2, BACK_OFF_S_MAX)

    async def publish_some(self) -> bool:
        """Publish up to one batch. Whether there was any. Raises Unavailable."""
        found = self._spool.unpublished(self._bytes_max)
        if found is None:
            return False
        segment, data = found
        offset = 0
        ends: list[End] = []
        for payload, following in payloads(data):
            offset = following
            if payload.startswith(END):
                ends.append(end_of(payload))
        assert offset, "a spool's own bytes must hold at least one whole record"
        await self._publish(ends)
        self._metrics.published += len(ends)
        self._spool.mark_published(segment, segment.published + offset)
        return True

    async def _publish(self, ends: list[End]) -> None:
        spans = self._spans
        if spans is None:
            await self._producer.publish_batch(topics.USAGE, [(end.account, end.event) for end in ends])
            return
        traced = [spans.traced(end) for end in ends]
        await self._producer.publish_batch(
            topics.USAGE, [(end.account, event) for end, (event, _) in zip(ends, traced, strict=True)]
        )
        for event, context in traced:
            if context is not None:
                spans.published(event, context)
