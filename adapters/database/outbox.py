"""The outbox: what a service decided leaves in the same transaction that decided it, and is relayed to Kafka.

Rows are marked as sent one batch at a time; there is no cursor that a late commit could hide behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import sqlalchemy as sa
from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database.engine import Database
from adapters.database.relay_lease import RelayLease
from adapters.database.shared_tables import outbox
from adapters.errors import Unavailable
from adapters.kafka.fenced_producer import FencedProducer
from schemas.topics import TOPICS, Topic

logger = logging.getLogger(__name__)

ENVELOPE_ROOM_BYTES = 1_024
FENCE_AGAIN_S = 86_400.0
"""Kafka forgets a producer's name after seven days without a word of it, and then would not know whom to refuse."""
PURGE_MAX = 5_000
PURGE_EVERY_S = 60.0
SENT = Counter("hydra_outbox_sent_total", "Changes that Kafka acknowledged", ["topic"])
WAITING = Gauge("hydra_outbox_waiting", "Changes that Kafka did not have at the relay's last look")
OLDEST = Gauge(
    "hydra_outbox_oldest_seconds", "For how long this relay has seen the change at the front wait; 0: none waits"
)
FENCED = Counter("hydra_outbox_fenced_total", "Batches sent by a relay that had lost its lease meanwhile")

_TOPICS = {topic.name: topic for topic in TOPICS}


async def add(session: AsyncSession, topic: Topic, key: str, event: bytes | None) -> None:
    """Put one message (None: a tombstone) into the outbox, in the caller's transaction.

    Order per key is the order of the inserts, so the caller must hold the lock of what the key names.
    """
    if event is not None and len(event) > topic.max_message_bytes - ENVELOPE_ROOM_BYTES:
        # It would block everything behind it for ever: whoever built it is wrong.
        raise AssertionError(f"an event of {len(event)} bytes does not fit {topic.name}")
    await session.execute(outbox.insert().values(topic=topic.name, key=key, value=event))


class Waiting(NamedTuple):
    """A row that Kafka does not have yet."""

    position: int
    topic: str
    key: str
    value: bytes | None


class OutboxRelay:
    """Publishes the outbox, woken by each commit and every `poll_s` besides. One relay at a time holds the lease.

    With Kafka away it backs off and keeps every row; `reason` then says so, and is empty while all is well.
    """

    def __init__(
        self,
        database: Database,
        producer: FencedProducer,
        clock: Clock,
        *,
        batch_max: int = 500,
        poll_s: float = 0.5,
        lease_s: float = 3.0,
        keep_sent_s: float = 3_600.0,
    ) -> None:
        self._database = database
        self._producer = producer
        self._clock = clock
        self._batch_max = batch_max
        self._poll_s = poll_s
        self._keep_sent = timedelta(seconds=keep_sent_s)
        self._lease = RelayLease(database, clock, lease_s=lease_s)
        self._woken = asyncio.Event()
        self._purged_at = clock.monotonic()
        self._fenced: tuple[int | None, float] | None = None
        self._front: tuple[int, float] | None = None
        OLDEST.set_function(self.oldest_s)
        self.reason = ""
        database.on_commit(self.wake)

    def wake(self) -> None:
        """Look at the outbox now."""
        self._woken.set()

    async def run(self) -> None:
        """Relay until cancelled; then hand the lease back, so that a successor need not wait for it to lapse."""
        keeper = asyncio.create_task(self._lease.keep(), name="outbox lease")
        pause_s = 0.1
        try:
            while True:
                try:
                    sent = await self.relay_batch()
                    await self._purge()
                except Unavailable as error:
                    self.reason = f"changes wait in the outbox: {error}"
                    logger.warning("outbox waits", extra={"cause": str(error), "pause_s": pause_s})
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 2.0)
                    continue
                self.reason, pause_s = "", 0.1
                if sent < self._batch_max:
                    await self._wait()
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
            with contextlib.suppress(Unavailable):
                await self._lease.release()

    def oldest_s(self) -> float:
        """Seconds since this relay first saw the change that waits in front; 0 where none does."""
        return 0.0 if self._front is None else self._clock.monotonic() - self._front[1]

    async def relay_batch(self) -> int:
        """Send the oldest unsent rows and mark them; how many. 0 also where another relay holds the lease."""
        self._woken.clear()
        if not await self._lease.take():
            self._front = None  # whoever holds the lease tells
            return 0
        rows = await self._unsent()
        await self._note_waiting(rows)
        if not rows:
            return 0
        await self._fence()
        if not self._lease.held:
            return 0
        await self._producer.publish_all([(_TOPICS[row.topic], row.key, row.value) for row in rows])
        await self._mark(rows)
        if len(rows) < self._batch_max:
            await self._note_waiting(())
        return len(rows)

    async def _fence(self) -> None:
        """Have Kafka refuse what earlier holders of the lease still send: once a holding, and where the producer lost.

        Before the lease is looked at once more: who was stopped in here, and so fenced off a successor, sends nothing.
        """
        now, epoch = self._clock.monotonic(), self._lease.epoch
        if self._fenced is not None and self._producer.up:
            fenced_as, fenced_at = self._fenced
            if fenced_as == epoch and now - fenced_at < FENCE_AGAIN_S:
                return
        await self._producer.fence()
        self._fenced = epoch, now

    async def _note_waiting(self, rows: Sequence[Waiting]) -> None:
        if not rows:
            self._front = None
        elif self._front is None or self._front[0] != rows[0].position:
            self._front = rows[0].position, self._clock.monotonic()
        count = len(rows)
        if count == self._batch_max:
            async with self._database.connection() as connection:
                query = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.sent_at.is_(None))
                count = (await connection.execute(query)).scalar_one()
        WAITING.set(count)

    async def _wait(self) -> None:
        # Not asyncio.wait_for: on Python 3.11 it swallows a cancellation that meets the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self._woken.wait()

    async def _unsent(self) -> Sequence[Waiting]:
        columns = (outbox.c.position, outbox.c.topic, outbox.c.key, outbox.c.value)
        query = sa.select(*columns).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.position)
        async with self._database.connection() as connection:
            return [Waiting(*row) for row in (await connection.execute(query.limit(self._batch_max))).all()]

    async def _mark(self, rows: Sequence[Waiting]) -> None:
        async with self._database.transaction(wakes=False) as session:
            if await self._lease.still_mine(session):
                positions = [row.position for row in rows]
                await session.execute(
                    outbox.update().where(outbox.c.position.in_(positions)).values(sent_at=self._clock.now())
                )
            else:
                # We were stopped for so long that another relay took over: what we just sent may lie on top of newer
                # states. Have the newest state of each of these keys sent again by whoever relays now.
                FENCED.inc()
                logger.warning("relay was fenced, newest states are sent again", extra={"rows": len(rows)})
                for topic, key in sorted({(row.topic, row.key) for row in rows}):
                    await session.execute(_newest(topic, key).values(sent_at=None))
                return
        for row in rows:
            SENT.labels(row.topic).inc()

    async def _purge(self) -> None:
        if self._clock.monotonic() - self._purged_at < PURGE_EVERY_S:
            return
        old = sa.select(outbox.c.position).where(outbox.c.sent_at < self._clock.now() - self._keep_sent)
        async with self._database.transaction(wakes=False) as session:
            gone = await session.execute(outbox.delete().where(outbox.c.position.in_(old.limit(PURGE_MAX))))
        # As many as allowed: more may wait, and a round a minute would not keep up with what is sent.
        if gone.rowcount < PURGE_MAX:  # type: ignore[attr-defined]  # a deletion's result has it
            self._purged_at = self._clock.monotonic()


def _newest(topic: str, key: str) -> sa.Update:
    positions = outbox.alias()
    newest = sa.select(sa.func.max(positions.c.position)).where(positions.c.topic == topic, positions.c.key == key)
    return outbox.update().where(outbox.c.position == newest.scalar_subquery())
