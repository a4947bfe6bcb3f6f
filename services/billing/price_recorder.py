"""Records the price text's versions on `hydra.prices`, once at the start, and follows that topic.

Billing alone records prices; raters use nothing else. The rule is domain/price_recording.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiokafka import ConsumerRecord

from adapters.clock import Clock
from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.follower import TopicFollower
from adapters.kafka.producer import EventProducer
from adapters.kafka.stops import Stops
from domain.ids import price_event_id
from domain.price_recording import PriceTextRefused, WrittenPrice, versions_to_record
from domain.prices import InvalidPrice, PriceBook
from schemas import codec
from schemas.prices import PriceRecorded
from schemas.topics import PRICES

logger = logging.getLogger(__name__)

SOURCE = "/hydra/billing"
RETRY_S = 0.3


class PriceRecorder:
    """`book` is what is recorded; `reason` tells why recording is not done yet, and is empty when it is."""

    def __init__(
        self, bootstrap: str, producer: EventProducer, clock: Clock, text: Sequence[WrittenPrice], file: Path
    ) -> None:
        self._producer = producer
        self._clock = clock
        self._text = text
        self._file = file
        self._recorded: dict[tuple[str, int], PriceRecorded] = {}
        self._follower = TopicFollower(bootstrap, PRICES, self._take, stops=Stops(bootstrap, "billing"))
        self.book = PriceBook()
        self.reason = "prices are not recorded yet"

    async def run(self) -> None:
        """Record what is new, then follow until cancelled. Raises StopOnPurpose where the text may not be recorded."""
        following = asyncio.create_task(self._follower.run(), name="prices")
        recording = asyncio.create_task(self._record(), name="price text")
        try:
            # Where the log is not whole, the follower ends while recording still waits for it.
            done, _ = await asyncio.wait((following, recording), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await following
        finally:
            following.cancel()
            recording.cancel()
            await asyncio.gather(following, recording, return_exceptions=True)

    def versions(self) -> list[PriceRecorded]:
        """Every recorded version, by price and beginning."""
        return [price for price_id in self.book.price_ids() for price in self.book.versions(price_id)]

    async def _record(self) -> None:
        while self.reason:
            try:
                await self._follower.catch_up()
                for price in self._new():
                    await self._publish(price)
                await self._follower.catch_up()
                self.reason = ""
            except Unavailable as error:
                self.reason = f"prices are not recorded yet: {error}"
                await asyncio.sleep(RETRY_S)

    def _new(self) -> list[PriceRecorded]:
        try:
            return versions_to_record(self._text, self._recorded.values(), self._clock.now(), file=str(self._file))
        except PriceTextRefused as error:
            raise StopOnPurpose(str(error)) from error

    async def _publish(self, price: PriceRecorded) -> None:
        event = codec.event(
            price,
            id=price_event_id(price.price_id, price.version),
            source=SOURCE,
            subject=price.price_id,
            time=price.recorded_at,
        )
        await self._producer.publish(PRICES, price.price_id, codec.encode(event))
        logger.info("price recorded", extra={"price": event.id, "effective_from": price.effective_from})

    def _take(self, record: ConsumerRecord) -> None:
        try:
            price = codec.decode(record.value or b"", PriceRecorded).data
            if self.book.record(price):
                self._recorded[price.price_id, price.version] = price
        except (msgspec.DecodeError, InvalidPrice) as error:
            # The first record of a version stands; raters judge by the same rule.
            logger.error("price record passed over", extra={"offset": record.offset, "cause": type(error).__name__})
