"""A producer with a name, of which one may write: what an earlier one of that name still sends is refused by Kafka.

Kafka gives the producers of one transactional id one producer id with rising epochs, and a partition refuses a batch
of an epoch below the highest that it has seen. No transaction is ever begun, so no control record is written and
offsets stay without gaps.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer

from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer

TRANSACTION_TIMEOUT_MS = 60_000
"""Kafka asks for one, though no transaction is ever begun."""


class FencedProducer(EventProducer):
    """Sends only after `fence`, and never connects by itself: that would fence off whoever has the right to write."""

    def __init__(
        self, bootstrap: str, name: str, *, timeout_s: float = 30.0, linger_ms: int = 0, batch_bytes: int = 262_144
    ) -> None:
        super().__init__(bootstrap, timeout_s=timeout_s, linger_ms=linger_ms, batch_bytes=batch_bytes)
        self._name = name

    @property
    def up(self) -> bool:
        """Whether it was fenced in and nothing has told since that it cannot go on."""
        return self._producer is not None and not self._cannot_go_on()

    async def fence(self) -> None:
        """From now on Kafka refuses all others of this name wherever this one has written. Raises Unavailable."""
        await self.stop()
        self._lost_sequence = False
        await self.start()

    async def _connect_if_needed(self) -> None:
        if not self.up:
            raise Unavailable("the producer is not connected, or another of its name has taken over")

    async def _begin(self, producer: AIOKafkaProducer) -> None:
        # aiokafka would insist on transactions if it kept the name: it needs it only where it asks for its epoch.
        manager = producer._txn_manager
        manager.transactional_id, manager.transaction_timeout_ms = self._name, TRANSACTION_TIMEOUT_MS
        try:
            # aiokafka looks for the coordinator of the name for as long as there is none.
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
        finally:
            manager.transactional_id = None
