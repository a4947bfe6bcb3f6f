"""What may become of an account: created, renamed, limited, suspended, closed. Each change leaves by the outbox."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.clock import Clock
from adapters.database import outbox
from adapters.http_errors import ApiError
from domain.ids import ENTROPY_BYTES, OPERATOR_ACCOUNT, account_id
from schemas.topics import ACCOUNTS
from services.accounts.records import Account, account_of, row_of
from services.accounts.tables import accounts


def not_found(account: str) -> ApiError:
    """The same for an unknown account and for another one's."""
    return ApiError(404, "not_found", f"There is no account {account[:40]}.", field="account")


async def create(
    session: AsyncSession, clock: Clock, *, name: str, currency: str, spend_limit: Decimal | None, id: str | None = None
) -> Account:
    """A new active account; two may have the same name, the id tells them apart."""
    account = Account(
        id=id or account_id(secrets.token_bytes(ENTROPY_BYTES)),
        version=1,
        name=name,
        status="active",
        currency=currency,
        spend_limit=spend_limit,
        created=clock.now(),
    )
    await session.execute(accounts.insert().values(row_of(account)))
    await outbox.add(session, ACCOUNTS, account.id, account.event(clock.now()))
    return account


async def ensure_operator_account(session: AsyncSession, clock: Clock, currency: str) -> None:
    """The account `public` exists from the start; it owns the shared models."""
    if await find(session, OPERATOR_ACCOUNT) is None:
        await create(session, clock, name="public", currency=currency, spend_limit=None, id=OPERATOR_ACCOUNT)


async def find(session: AsyncSession, account: str, *, lock: bool = False) -> Account | None:
    """The account, its row locked to the end of the transaction where `lock` is set."""
    query = sa.select(accounts).where(accounts.c.id == account)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return account_of(row) if row else None


async def get(session: AsyncSession, account: str, *, lock: bool = False) -> Account:
    """The account. Raises ApiError 404."""
    found = await find(session, account, lock=lock)
    if found is None:
        raise not_found(account)
    return found


async def page(session: AsyncSession, after: tuple[datetime, str] | None, limit: int) -> list[Account]:
    """At most `limit` accounts in the order of their creation."""
    query = sa.select(accounts).order_by(accounts.c.created, accounts.c.id).limit(limit)
    if after is not None:
        created, account = after
        later = (accounts.c.created == created) & (accounts.c.id > account)
        query = query.where((accounts.c.created > created) | later)
    return [account_of(row) for row in (await session.execute(query)).all()]


async def change(session: AsyncSession, clock: Clock, account: str, changes: dict[str, Any]) -> Account:
    """Set some of name, status and spend_limit. A closed account stays closed; the operator's stays active."""
    old = await get(session, account, lock=True)
    new = replace(old, **changes)
    if new == old:
        return old
    if old.status == "closed":
        raise ApiError(409, "account_closed", "A closed account cannot be changed.", what_to_do="Create a new one.")
    if account == OPERATOR_ACCOUNT and new.status != "active":
        raise ApiError(409, "operator_account", "The operator's own account stays active.", field="status")
    new = replace(new, version=old.version + 1)
    await session.execute(accounts.update().where(accounts.c.id == account).values(row_of(new)))
    await outbox.add(session, ACCOUNTS, account, new.event(clock.now()))
    return new
