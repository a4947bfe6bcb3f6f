"""What is published on `hydra.balances`, and what must be: the difference is published, with the next version."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import msgspec
from aiokafka import ConsumerRecord

from adapters.clock import Clock
from adapters.errors import Unavailable
from adapters.kafka.follower import TopicFollower
from adapters.kafka.producer import EventProducer
from adapters.process_metrics import STATE_BAD_RECORDS
from domain.calendar import hour_start
from domain.plausible import Implausible, check_plausible
from domain.spend_windows import AccountSpend
from schemas import codec
from schemas.spend import BalanceStated
from schemas.topics import BALANCES
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics

logger = logging.getLogger(__name__)

SOURCE = "/hydra/live_spend"
BATCH_ACCOUNTS = 500


class BalancePublisher:
    """Compares rather than remembers: a worker that was thought dead and writes once more is corrected by the next."""

    def __init__(
        self, bootstrap: str, view: SpendView, producer: EventProducer, clock: Clock, metrics: StreamMetrics
    ) -> None:
        self._view = view
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        self._published: dict[str, BalanceStated] = {}
        self._contested: dict[str, int] = {}
        STATE_BAD_RECORDS[BALANCES.name] += 0
        self._follower = TopicFollower(bootstrap, BALANCES, self._take)
        self.follow = self._follower.run
        self.settled = False

    async def run(self, every_s: float) -> None:
        """Publish what changed until cancelled. With Kafka away it waits, and loses nothing."""
        await self._follower.caught_up.wait()
        hour = hour_start(self._clock.now())
        while True:
            now_hour = hour_start(self._clock.now())
            if now_hour != hour:
                # Day and month begin with an hour too.
                hour = now_hour
                self._view.mark_all()
            try:
                await self._publish_changed()
                self.settled = self._view.caught_up
            except Unavailable as error:
                self.settled = False
                logger.warning("balances wait", extra={"cause": str(error)})
                await asyncio.sleep(1.0)
            await asyncio.sleep(every_s)

    async def _publish_changed(self) -> None:
        changed = list(self._view.changed().items())
        try:
            while changed:
                batch = changed[:BATCH_ACCOUNTS]
                await self._publish(batch)
                del changed[: len(batch)]
        finally:
            for account, _ in changed:
                self._view.mark(account)

    async def _publish(self, batch: list[tuple[str, AccountSpend]]) -> None:
        now = self._clock.now()
        differing = [stated for account, spend in batch if (stated := self._differing(account, spend, now)) is not None]
        await self._producer.publish_all([(BALANCES, stated.account, _message(stated, now)) for stated in differing])
        for stated in differing:
            # Not simply ours now: another worker's may have been read while Kafka took this one.
            self._saw(stated)
        self._metrics.stated.inc(len(differing))

    def _differing(self, account: str, spend: AccountSpend, now: datetime) -> BalanceStated | None:
        """What must be published of an account, or None where that is published already."""
        windows = spend.windows(now)
        known = self._published.get(account)
        stated = BalanceStated(
            account=account,
            version=known.version if known else 0,
            hour=windows.hour,
            day=windows.day,
            month=windows.month,
            spent_hour=windows.spent_hour,
            spent_day=windows.spent_day,
            spent_month=windows.spent_month,
            spent_total=windows.spent_total,
            covers_offset=spend.covers_offset,
        )
        if stated == known and self._contested.get(account) != known.version:
            return None
        return msgspec.structs.replace(stated, version=stated.version + 1)

    def _take(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            stated = codec.decode(record.value, BalanceStated).data
            check_plausible(stated)
        except (msgspec.DecodeError, Implausible) as error:
            STATE_BAD_RECORDS[BALANCES.name] += 1
            logger.error("record of hydra.balances ignored", extra={"offset": record.offset, "cause": str(error)[:200]})
            return
        self._saw(stated)

    def _saw(self, stated: BalanceStated) -> None:
        """One statement on the topic, ours or another's: readers keep the highest version."""
        known = self._published.get(stated.account)
        if known is None or stated.version > known.version:
            self._published[stated.account] = stated
            self._view.mark(stated.account)
        elif stated.version == known.version and stated != known:
            # Two workers stated the same version: readers may hold either, so only a higher one settles it.
            self._contested[stated.account] = stated.version
            self._view.mark(stated.account)


def _message(stated: BalanceStated, now: datetime) -> bytes:
    id = f"{stated.account}@{stated.version}"
    return codec.encode(codec.event(stated, id=id, source=SOURCE, subject=stated.account, time=now))
