"""What may become of an API key: created, renamed, disabled, enabled, deleted. Each change leaves by the outbox."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database import outbox
from adapters.http_errors import ApiError
from domain.ids import ENTROPY_BYTES, api_key, key_hash, key_id, masked_key
from schemas.accounts import Scope
from schemas.topics import API_KEYS
from services.accounts import account_changes
from services.accounts.records import ApiKey, key_of, row_of
from services.accounts.tables import api_keys


class KeyMaker:
    """Makes a key from a nonce, so that a repeated request can be answered again without the key being stored.

    The nonce is kept only with the request's Idempotency-Key and expires with it; without the cluster's secret it
    tells nothing.
    """

    def __init__(self, cluster_secret: str) -> None:
        self._secret = cluster_secret.encode()

    def nonce(self) -> str:
        """32 random bytes in hex."""
        return secrets.token_hex(ENTROPY_BYTES)

    def key(self, nonce: str) -> str:
        """The key of a nonce: always the same one."""
        return api_key(hmac.new(self._secret, b"api-key:" + nonce.encode(), hashlib.sha256).digest())


async def create(
    session: AsyncSession, clock: Clock, *, account: str, name: str, scopes: tuple[Scope, ...], key: str, keys_max: int
) -> ApiKey:
    """Store and publish a new key by its hash. Raises ApiError where the account is closed or has too many."""
    owner = await account_changes.get(session, account, lock=True)
    if owner.status == "closed":
        raise ApiError(409, "account_closed", "A closed account gets no keys.", what_to_do="Create a new account.")
    alive = sa.select(sa.func.count()).where(api_keys.c.account == account, api_keys.c.status != "deleted")
    if (await session.execute(alive)).scalar_one() >= keys_max:
        raise ApiError(409, "too_many_keys", f"The account has {keys_max} keys.", what_to_do="Delete unused ones.")
    record = ApiKey(
        id=key_id(secrets.token_bytes(ENTROPY_BYTES)),
        version=1,
        account=account,
        name=name,
        key_hash=key_hash(key),
        masked=masked_key(key),
        scopes=scopes,
        status="active",
        created=clock.now(),
    )
    await session.execute(api_keys.insert().values(row_of(record)))
    await outbox.add(session, API_KEYS, record.id, record.event(clock.now()))
    return record


async def get(session: AsyncSession, account: str, key: str, *, lock: bool = False) -> ApiKey:
    """A key of the account that is not deleted. Raises ApiError 404."""
    mine = (api_keys.c.id == key) & (api_keys.c.account == account) & (api_keys.c.status != "deleted")
    query = sa.select(api_keys).where(mine)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise ApiError(404, "not_found", f"The account has no key {key[:40]}.", field="key_id")
    return key_of(row)


async def page(session: AsyncSession, account: str, after: tuple[datetime, str] | None, limit: int) -> list[ApiKey]:
    """At most `limit` keys of the account that are not deleted, in the order of their creation."""
    query = sa.select(api_keys).where(api_keys.c.account == account, api_keys.c.status != "deleted")
    if after is not None:
        created, key = after
        query = query.where((api_keys.c.created > created) | ((api_keys.c.created == created) & (api_keys.c.id > key)))
    ordered = query.order_by(api_keys.c.created, api_keys.c.id).limit(limit)
    return [key_of(row) for row in (await session.execute(ordered)).all()]


async def change(session: AsyncSession, clock: Clock, account: str, key: str, changes: dict[str, Any]) -> ApiKey:
    """Set name or status. `deleted` is for good; the row stays, so that old bills can name the key."""
    # The account's lock comes first: by it a caller's own key cannot change between its check and what it does.
    await account_changes.find(session, account, lock=True)
    old = await get(session, account, key, lock=True)
    new = replace(old, **changes)
    if new == old:
        return old
    new = replace(new, version=old.version + 1, deleted_at=clock.now() if new.status == "deleted" else None)
    await session.execute(api_keys.update().where(api_keys.c.id == key).values(row_of(new)))
    await outbox.add(session, API_KEYS, key, new.event(clock.now()))
    return new
