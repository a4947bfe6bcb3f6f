"""An account and a key as the database has them, and as the state events tell them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa

from schemas import codec
from schemas.accounts import AccountState, AccountStatus, ApiKeyState, KeyStatus, Scope

SOURCE = "/hydra/accounts"


@dataclass(frozen=True, kw_only=True)
class Account:
    id: str
    version: int
    name: str
    status: AccountStatus
    currency: str
    spend_limit: Decimal | None
    created: datetime

    def event(self, at: datetime) -> bytes:
        """`hydra.accounts.v1`, the full state."""
        state = AccountState(
            account=self.id,
            version=self.version,
            name=self.name,
            status=self.status,
            created=self.created,
            currency=self.currency,
            spend_limit=self.spend_limit,
        )
        return codec.encode(codec.event(state, id=f"{self.id}@{self.version}", source=SOURCE, subject=self.id, time=at))


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    id: str
    version: int
    account: str
    name: str
    key_hash: str
    masked: str
    scopes: tuple[Scope, ...]
    status: KeyStatus
    created: datetime
    last_used: datetime | None = None
    deleted_at: datetime | None = None
    tombstoned: bool = False

    def event(self, at: datetime) -> bytes:
        """`hydra.api-keys.v1`, the full state; the key itself is in no event."""
        state = ApiKeyState(
            key_id=self.id,
            version=self.version,
            account=self.account,
            name=self.name,
            key_hash=self.key_hash,
            masked=self.masked,
            scopes=self.scopes,
            status=self.status,
            created=self.created,
        )
        return codec.encode(codec.event(state, id=f"{self.id}@{self.version}", source=SOURCE, subject=self.id, time=at))


def account_of(row: sa.Row[Any]) -> Account:
    return Account(**row._mapping)


def key_of(row: sa.Row[Any]) -> ApiKey:
    values = dict(row._mapping)
    values["scopes"] = cast(tuple[Scope, ...], tuple(values["scopes"].split()))
    return ApiKey(**values)


def row_of(record: Account | ApiKey) -> dict[str, Any]:
    """The record as its table takes it."""
    values = dict(vars(record))
    if isinstance(record, ApiKey):
        values["scopes"] = " ".join(record.scopes)
    return values
