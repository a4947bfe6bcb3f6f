"""`Idempotency-Key`: the same key with the same request gets the answer of the first; with another request, 409."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database.shared_tables import idempotency_keys
from adapters.errors import HydraError

KEY = re.compile(r"[\x21-\x7e]{1,255}")


class KeyReused(HydraError):
    """The key was used for another request: answer 409."""


@dataclass(frozen=True)
class StoredAnswer:
    """What the first request was answered. `body` is JSON and never holds a secret."""

    status: int
    body: bytes


class IdempotencyKeys:
    """Keys per scope (an account, or the operator), kept for `keep_s` seconds. All in the caller's transaction.

    Claim first, act, then `answer`; a transaction that rolls back leaves the key unused, so a failed request may be
    sent again. Of two at once the second waits for the first's commit.
    """

    def __init__(self, clock: Clock, *, keep_s: float = 86_400.0) -> None:
        self._clock = clock
        self._keep = timedelta(seconds=keep_s)

    async def claim(self, session: AsyncSession, *, scope: str, key: str, request_hash: str) -> StoredAnswer | None:
        """The stored answer of the same request, or None: then the key is the caller's. Raises KeyReused."""
        now = self._clock.now()
        await session.execute(idempotency_keys.delete().where(idempotency_keys.c.expires <= now))
        made = await session.execute(
            _insert(session).values(scope=scope, key=key, request_hash=request_hash, expires=now + self._keep)
        )
        if made.rowcount:  # type: ignore[attr-defined]  # an insert's result has it
            return None
        where = (idempotency_keys.c.scope == scope) & (idempotency_keys.c.key == key)
        row = (await session.execute(sa.select(idempotency_keys).where(where))).one()
        if row.request_hash != request_hash:
            raise KeyReused(f"Idempotency-Key {key!r} was used for another request")
        assert row.status is not None and row.body is not None, "a committed key has its answer"
        return StoredAnswer(row.status, row.body)

    async def answer(self, session: AsyncSession, *, scope: str, key: str, answer: StoredAnswer) -> None:
        """Store what the claimed request is answered, in the transaction that did it."""
        where = (idempotency_keys.c.scope == scope) & (idempotency_keys.c.key == key)
        await session.execute(idempotency_keys.update().where(where).values(status=answer.status, body=answer.body))


def _insert(session: AsyncSession) -> sqlite.Insert | postgresql.Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(idempotency_keys).on_conflict_do_nothing()
    return sqlite.insert(idempotency_keys).on_conflict_do_nothing()
