"""Whether who calls may still change anything, asked of the database: what Kafka has told may be older."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.api_keys import Principal, check_usable
from adapters.http_callers import account_suspended
from services.accounts import account_changes
from services.accounts.records import key_of
from services.accounts.tables import api_keys


async def check_caller(session: AsyncSession, caller: Principal, *, lock: bool = False) -> None:
    """Raise what a key that is not active, or its account's status, is answered everywhere; never for the operator.

    With `lock` the account's row is locked first, as everything that changes a key or an account does: what is found
    then stays so to the end of the transaction.
    """
    if caller.key_id is None:
        return
    account = await account_changes.find(session, caller.account, lock=lock)
    query = sa.select(api_keys).where(api_keys.c.id == caller.key_id, api_keys.c.account == caller.account)
    row = (await session.execute(query)).one_or_none()
    # A database put back to an older day may lack what Kafka still tells.
    check_usable(key_of(row).status if row else "deleted", account.status if account else None)
    if account is not None and account.status == "suspended":
        raise account_suspended()
