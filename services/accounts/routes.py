"""The HTTP routes: /v1/accounts for the operator, /v1/accounts/{id}/keys also for a customer's key with `manage`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.api_keys import Principal
from adapters.clock import Clock
from adapters.database.engine import Database
from adapters.database.idempotency import IdempotencyKeys
from adapters.http_callers import Caller, Operator, acting_account, require_scope
from adapters.http_errors import ApiError, error_responses
from adapters.http_idempotency import Act, IdempotencyKey, answered_once
from adapters.http_paging import PAGE_ROWS, Limit, PageCursor, cursor_instant, cursor_parts, cursor_text
from services.accounts import account_changes, key_changes
from services.accounts.callers import check_caller
from services.accounts.records import Account, ApiKey
from services.accounts.settings import AccountsSettings
from services.accounts.views import (
    AccountChange,
    AccountCreate,
    AccountPage,
    AccountView,
    KeyChange,
    KeyCreate,
    KeyMade,
    KeyPage,
    KeyRemembered,
    KeyView,
)

AccountId = Annotated[str, Path(max_length=64, description="`u-...`, `public`, or `me` for the key's own account.")]
KeyId = Annotated[str, Path(max_length=64, description="`k-...`")]


@dataclass(frozen=True)
class AccountRoutes:
    """The routes and what they work with."""

    database: Database
    clock: Clock
    idempotency: IdempotencyKeys
    key_maker: key_changes.KeyMaker
    settings: AccountsSettings

    def router(self) -> APIRouter:
        """All routes, to be included in the app."""
        router = APIRouter()
        self._add_accounts(router)
        self._add_keys(router)
        return router

    def _add_accounts(self, router: APIRouter) -> None:
        tags: list[Any] = ["accounts"]

        @router.post(
            "/v1/accounts", status_code=201, response_model=AccountView, responses=error_responses(403, 409), tags=tags
        )
        async def create_account(
            request: Request, body: AccountCreate, caller: Operator, key: IdempotencyKey = None
        ) -> JSONResponse:
            """Create an account (operator)."""
            currency = self.settings.currency
            # Prices are in one currency, and so is what is spent: a limit in another would never be reached.
            if body.currency not in (None, currency):
                raise ApiError(
                    400,
                    "invalid_request",
                    f"currency: accounts here are in {currency}.",
                    field="currency",
                    what_to_do=f"Leave it out, or send {currency}.",
                )

            async def act(session: AsyncSession) -> tuple[int, BaseModel]:
                made = await account_changes.create(
                    session, self.clock, name=body.name, currency=currency, spend_limit=body.spend_limit
                )
                return 201, AccountView.of(made)

            return await self._once(act, request, caller, key)

        @router.get("/v1/accounts", response_model=AccountPage, responses=error_responses(403), tags=tags)
        async def list_accounts(caller: Operator, limit: Limit = PAGE_ROWS, cursor: PageCursor = None) -> AccountPage:
            """List all accounts (operator)."""
            async with self.database.transaction() as session:
                found = await account_changes.page(session, _after(cursor), limit)
            return AccountPage(data=[AccountView.of(a) for a in found], next_cursor=_next(found, limit))

        @router.get("/v1/accounts/{account}", response_model=AccountView, responses=error_responses(404), tags=tags)
        async def show_account(account: AccountId, caller: Caller) -> AccountView:
            """Show an account: any for the operator, their own for customers."""
            async with self.database.transaction() as session:
                return AccountView.of(await account_changes.get(session, acting_account(caller, account)))

        @router.patch(
            "/v1/accounts/{account}", response_model=AccountView, responses=error_responses(403, 404, 409), tags=tags
        )
        async def change_account(
            request: Request, account: AccountId, body: AccountChange, caller: Operator, key: IdempotencyKey = None
        ) -> JSONResponse:
            """Change name, status or spend limit (operator). In force at the gateway within a second."""

            async def act(session: AsyncSession) -> tuple[int, BaseModel]:
                target, changes = acting_account(caller, account), body.model_dump(exclude_unset=True)
                return 200, AccountView.of(await account_changes.change(session, self.clock, target, changes))

            return await self._once(act, request, caller, key)

    def _add_keys(self, router: APIRouter) -> None:
        tags: list[Any] = ["keys"]
        keys, one = "/v1/accounts/{account}/keys", "/v1/accounts/{account}/keys/{key_id}"

        @router.post(keys, status_code=201, response_model=KeyMade, responses=error_responses(403, 404, 409), tags=tags)
        async def create_key(
            request: Request, account: AccountId, body: KeyCreate, caller: Caller, key: IdempotencyKey = None
        ) -> JSONResponse:
            """Create a key. The answer shows it this once; a repeat with the same Idempotency-Key shows it again."""
            target = _managed(caller, account)

            async def act(session: AsyncSession) -> tuple[int, BaseModel]:
                nonce = self.key_maker.nonce()
                made = await key_changes.create(
                    session,
                    self.clock,
                    account=target,
                    name=body.name,
                    scopes=tuple(dict.fromkeys(body.scopes)),
                    key=self.key_maker.key(nonce),
                    keys_max=self.settings.keys_max,
                )
                return 201, KeyRemembered(**KeyView.of(made).model_dump(), nonce=nonce)

            return await self._once(act, request, caller, key, with_key=True)

        @router.get(keys, response_model=KeyPage, responses=error_responses(403, 404), tags=tags)
        async def list_keys(
            account: AccountId, caller: Caller, limit: Limit = PAGE_ROWS, cursor: PageCursor = None
        ) -> KeyPage:
            """List an account's keys, masked, with their last use."""
            target = _managed(caller, account)
            async with self.database.transaction() as session:
                await account_changes.get(session, target)
                found = await key_changes.page(session, target, _after(cursor), limit)
            return KeyPage(data=[KeyView.of(k) for k in found], next_cursor=_next(found, limit))

        @router.get(one, response_model=KeyView, responses=error_responses(403, 404), tags=tags)
        async def show_key(account: AccountId, key_id: KeyId, caller: Caller) -> KeyView:
            """Show one key, masked."""
            async with self.database.transaction() as session:
                return KeyView.of(await key_changes.get(session, _managed(caller, account), key_id))

        @router.patch(one, response_model=KeyView, responses=error_responses(403, 404), tags=tags)
        async def change_key(
            request: Request,
            account: AccountId,
            key_id: KeyId,
            body: KeyChange,
            caller: Caller,
            key: IdempotencyKey = None,
        ) -> JSONResponse:
            """Rename, disable or enable a key. In force at the gateway within a second."""
            changes = body.model_dump(exclude_unset=True)
            return await self._once(self._key_change(caller, account, key_id, changes), request, caller, key)

        @router.delete(one, response_model=KeyView, responses=error_responses(403, 404), tags=tags)
        async def delete_key(
            request: Request, account: AccountId, key_id: KeyId, caller: Caller, key: IdempotencyKey = None
        ) -> JSONResponse:
            """Delete a key for good. In force at the gateway within a second."""
            changes = {"status": "deleted"}
            return await self._once(self._key_change(caller, account, key_id, changes), request, caller, key)

    def _key_change(self, caller: Principal, account: str, key_id: str, changes: dict[str, Any]) -> Act:
        target = _managed(caller, account)

        async def act(session: AsyncSession) -> tuple[int, BaseModel]:
            return 200, KeyView.of(await key_changes.change(session, self.clock, target, key_id, changes))

        return act

    async def _once(
        self, act: Act, request: Request, caller: Principal, key: str | None, *, with_key: bool = False
    ) -> JSONResponse:
        def shown(stored: dict[str, Any]) -> dict[str, Any]:
            nonce = stored.pop("nonce")
            return {**stored, "key": self.key_maker.key(nonce)}

        async def act_if_still_allowed(session: AsyncSession) -> tuple[int, BaseModel]:
            await check_caller(session, caller, lock=True)
            return await act(session)

        # Before anything is claimed too: a repeat does not act, and yet it may show a key. Without a lock: if accounts
        # were locked before some claims and after others, two of them could wait for each other.
        if not caller.operator:
            async with self.database.transaction(wakes=False) as session:
                await check_caller(session, caller)
        return await answered_once(
            act_if_still_allowed,
            database=self.database,
            keys=self.idempotency,
            request=request,
            caller=caller,
            key=key,
            shown=shown if with_key else None,
        )


def _managed(caller: Principal, account: str) -> str:
    require_scope(caller, "manage")
    return acting_account(caller, account)


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    parts = cursor_parts(cursor, 2)
    if parts is None:
        return None
    return cursor_instant(parts[0]), parts[1]


def _next(found: Sequence[Account | ApiKey], limit: int) -> str | None:
    if len(found) < limit:
        return None
    return cursor_text(found[-1].created.isoformat(), found[-1].id)
