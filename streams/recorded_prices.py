"""The price book as `hydra.prices` has recorded it, read to its end before a batch is rated."""

from __future__ import annotations

import logging

import msgspec
from aiokafka import ConsumerRecord

from adapters.kafka.follower import TopicFollower
from adapters.kafka.stops import Stops
from domain.prices import InvalidPrice, PriceBook
from schemas import codec
from schemas.prices import PriceRecorded
from schemas.topics import PRICES
from streams.metrics import StreamMetrics

logger = logging.getLogger(__name__)


class RecordedPrices:
    """`book` holds every price recorded so far. What is no price is ignored and counted: the warehouse parks it.

    A version that comes again with other contents is ignored too. The topic has one partition, so every rater sees
    the same first one.
    """

    def __init__(self, bootstrap: str, metrics: StreamMetrics, stops: Stops | None = None) -> None:
        self.book = PriceBook()
        self._metrics = metrics
        self._follower = TopicFollower(bootstrap, PRICES, self._take, stops=stops)
        self.run = self._follower.run
        self.catch_up = self._follower.catch_up

    @property
    def connected(self) -> bool:
        return self._follower.connected

    @property
    def caught_up(self) -> bool:
        """Whether everything has been read once that was recorded when this process started."""
        return self._follower.caught_up.is_set()

    def _take(self, record: ConsumerRecord) -> None:
        try:
            self.book.record(codec.decode(record.value or b"", PriceRecorded).data)
        except (msgspec.DecodeError, RecursionError, InvalidPrice) as error:
            self._metrics.bad_prices.inc()
            cause = str(error) if isinstance(error, InvalidPrice) else type(error).__name__
            logger.error("record of hydra.prices ignored", extra={"offset": record.offset, "cause": cause})
