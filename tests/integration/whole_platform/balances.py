"""Reads what `hydra.balances` states now."""

from __future__ import annotations

import asyncio
import contextlib

from adapters.kafka.state_topic import StateTopic
from schemas.spend import BalanceStated
from schemas.topics import BALANCES


async def read_balances(bootstrap: str) -> dict[str, BalanceStated]:
    """Account -> its newest balance."""
    state = StateTopic(bootstrap, BALANCES, BalanceStated)
    task = asyncio.create_task(state.run())
    try:
        await asyncio.wait_for(state.caught_up.wait(), 60)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return state.states
