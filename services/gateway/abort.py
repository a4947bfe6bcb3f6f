"""Asking an engine to stop a request that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from services.gateway.models import Instance
from services.gateway.upstream_pool import UpstreamPool

_AGAIN_AFTER_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""An abort that comes before the engine tracks the request does nothing, so it is said again."""


class _AbortAnswer:
    """Waits for the answer to one abort; what it says does not matter, the original's end does."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def upstream_began(self, status: int) -> None: ...

    def upstream_data(self, data: bytes) -> None: ...

    def upstream_complete(self) -> None:
        self.ended.set()

    def upstream_lost(self) -> None:
        self.ended.set()


async def abort_until_done(
    pool: UpstreamPool, instance: Instance, engine_request_ids: list[str], is_done: Callable[[], bool]
) -> None:
    """Abort every id, again with growing pauses, until `is_done` (checked between) or the list of pauses is used up."""
    for pause_s in _AGAIN_AFTER_S:
        for engine_request_id in engine_request_ids:
            await _abort(pool, instance, engine_request_id)
        if is_done():
            return
        await asyncio.sleep(pause_s)
        if is_done():
            return


async def _abort(pool: UpstreamPool, instance: Instance, engine_request_id: str) -> None:
    upstream = pool.take(instance)
    try:
        if upstream is None:
            upstream = await pool.connect(instance)
        body = msgspec.json.encode({"rid": engine_request_id})
        answer = _AbortAnswer()
        upstream.send(answer, instance.head_prefix["/abort_request"] + b"%d\r\n\r\n" % len(body), body)
        async with asyncio.timeout(1.0):
            await answer.ended.wait()
    except (OSError, TimeoutError):
        if upstream is not None:
            upstream.close()
