"""Ends an aiokafka consumer so that neither a dead broker nor aiokafka's own cancellations reach the caller."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaConsumer

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 15.0


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop `consumer`; raises CancelledError only where the caller itself is cancelled.

    aiokafka 0.14 cancels its pending fetches and awaits them bare: while the broker is away `stop` itself then raises
    CancelledError, which would end a caller that was about to try again, and leaves the client open.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    done, _ = await asyncio.wait([stopping], timeout=STOP_TIMEOUT_S)
    if done and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    logger.warning("consumer did not stop cleanly; its connections are closed")
    closing = asyncio.ensure_future(consumer._client.close())
    await asyncio.wait([closing], timeout=STOP_TIMEOUT_S)
