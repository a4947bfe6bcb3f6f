"""Several questions or inserts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def together(*calls: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """The answers in the calls' order, once all have ended; else the first failure, and none goes on behind it.

    How many ClickHouse sees at once is bounded by the client's connections.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
