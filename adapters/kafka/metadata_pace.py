"""Keeps aiokafka's producer from asking for metadata thousands of times a second.

With messages waiting for a partition that has no leader (its broker has just been stopped) aiokafka 0.14 asks for
metadata again as soon as it has an answer, and reconnects without a pause when it has none: a full core, and 5,000
log lines a second.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer

PAUSE_S = 0.25


def pace_metadata(producer: AIOKafkaProducer, pause_s: float = PAUSE_S) -> None:
    """Let `pause_s` pass between two metadata requests of this producer; the first goes out at once."""
    client = producer.client
    update = client._metadata_update
    last = -pause_s

    async def paced(*arguments: Any) -> Any:
        nonlocal last
        await asyncio.sleep(max(0.0, last + pause_s - time.monotonic()))
        try:
            return await update(*arguments)
        finally:
            last = time.monotonic()

    client._metadata_update = paced
