"""Which relay may publish: one row with an epoch, so that a relay that lost it learns so before it marks anything."""

from __future__ import annotations

import asyncio
import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database.engine import Database
from adapters.database.shared_tables import outbox_lease
from adapters.errors import Unavailable


class RelayLease:
    """Held by beating: a holder whose beat stands still for `lease_s` of a challenger's monotonic clock has lost it.

    No two machines' clocks are compared. `held` is cautious: it turns False well before a challenger may take over.
    """

    def __init__(self, database: Database, clock: Clock, *, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._me = secrets.token_hex(16)
        self._epoch: int | None = None
        self._beaten_at = float("-inf")
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0

    @property
    def epoch(self) -> int | None:
        """The number of this holding of the lease; None where it is not held as far as is known."""
        return self._epoch

    @property
    def held(self) -> bool:
        """Whether this relay surely holds the lease now."""
        return self._epoch is not None and self._clock.monotonic() - self._beaten_at < self._lease_s * 0.6

    async def take(self) -> bool:
        """Beat, or take the lease where it is free or lapsed; False where another holds it. Raises Unavailable."""
        if self._epoch is not None and self._clock.monotonic() - self._beaten_at < self._lease_s * 0.3:
            return True
        began = self._clock.monotonic()
        async with self._database.transaction(wakes=False) as session:
            row = (await session.execute(select(outbox_lease).with_for_update())).one()
            if row.holder == self._me and row.epoch == self._epoch:
                await session.execute(outbox_lease.update().values(beat=row.beat + 1))
            elif row.holder is None or self._lapsed(row.epoch, row.beat):
                self._epoch = row.epoch + 1
                await session.execute(outbox_lease.update().values(epoch=self._epoch, holder=self._me, beat=0))
            else:
                self._epoch = None
                return False
        self._beaten_at = began
        return True

    def _lapsed(self, epoch: int, beat: int) -> bool:
        now = self._clock.monotonic()
        if self._seen != (epoch, beat):
            self._seen, self._seen_at = (epoch, beat), now
        return now - self._seen_at >= self._lease_s

    async def keep(self) -> None:
        """Beat until cancelled while the lease is held, so that a slow Kafka does not lose it."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            if self._epoch is not None:
                try:
                    await self.take()
                except Unavailable:
                    continue  # the relay meets the same outage and reports it; an unkept lease lapses by itself

    async def still_mine(self, session: AsyncSession) -> bool:
        """Whether the lease has not changed hands, as of the caller's transaction, which then holds its row."""
        row = (await session.execute(select(outbox_lease).with_for_update())).one()
        return bool(row.holder == self._me and row.epoch == self._epoch)

    async def release(self) -> None:
        """Give the lease back if it is held here."""
        epoch, self._epoch = self._epoch, None
        if epoch is None:
            return
        async with self._database.transaction(wakes=False) as session:
            mine = (outbox_lease.c.holder == self._me) & (outbox_lease.c.epoch == epoch)
            await session.execute(outbox_lease.update().where(mine).values(holder=None))
