"""The price book as `hydra.prices` has recorded it, to be shown in details. Nothing is rated here."""

from __future__ import annotations

import logging

import msgspec
from aiokafka import ConsumerRecord

from adapters.kafka.follower import TopicFollower
from domain.prices import InvalidPrice, PriceBook, time_price_id
from schemas import codec
from schemas.prices import PriceRecorded
from schemas.topics import PRICES

logger = logging.getLogger(__name__)


class ShownPrices:
    """Follows the topic; before it is caught up, or without a price in force, there is none to show."""

    def __init__(self, bootstrap: str) -> None:
        self.book = PriceBook()
        self.run = TopicFollower(bootstrap, PRICES, self._take).run

    def price_id(self, region: str, spec: str) -> str:
        """The id of the price of an instance's time."""
        return time_price_id(region, spec)

    def _take(self, record: ConsumerRecord) -> None:
        try:
            self.book.record(codec.decode(record.value or b"", PriceRecorded).data)
        except (msgspec.DecodeError, InvalidPrice) as error:
            logger.error("price not shown", extra={"offset": record.offset, "cause": type(error).__name__})
