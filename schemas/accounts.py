"""`hydra.accounts` and `hydra.api-keys`: who may. Both compacted; readers keep the highest version per key."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

AccountStatus = Literal["active", "suspended", "closed"]
KeyStatus = Literal["active", "disabled", "deleted"]
Scope = Literal["inference", "billing", "manage"]


class AccountState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.accounts.v1`, key account. `spend_limit` bounds total spend in `currency`; None is no limit."""

    account: str
    version: Count
    name: str
    status: AccountStatus
    created: Instant
    currency: str
    spend_limit: Decimal | None = None


class ApiKeyState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.api-keys.v1`, key `key_id`. `key_hash` is SHA-256 in hex; the key itself exists in no event."""

    key_id: str
    version: Count
    account: str
    name: str
    key_hash: str
    masked: str
    scopes: tuple[Scope, ...]
    status: KeyStatus
    created: Instant
