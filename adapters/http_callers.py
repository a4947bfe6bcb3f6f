"""Dependencies of routes that say who may call.

`Caller` is anyone authenticated, `EndingCaller` also a suspended account that ends something, `Operator` the operator.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from adapters.api_keys import ApiKeys, Principal
from adapters.http_errors import ApiError
from schemas.accounts import Scope

_bearer = HTTPBearer(
    auto_error=False, description="A customer's API key (`sk-...`), or the operator's token for the operator's calls."
)


async def _authenticated(
    request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    keys: ApiKeys = request.app.state.api_keys
    caller = keys.principal(request.headers.get("authorization"))
    request.state.caller = caller
    return caller


EndingCaller = Annotated[Principal, Depends(_authenticated)]
"""Whoever sent a valid key or the operator's token, a suspended account too: for commands that only end what costs."""


def account_suspended() -> ApiError:
    return ApiError(403, "account_suspended", "This account is suspended.", what_to_do="Ask the operator.")


async def _caller(request: Request, caller: EndingCaller) -> Principal:
    if caller.account_status == "suspended" and request.method != "GET":
        raise account_suspended()
    return caller


Caller = Annotated[Principal, Depends(_caller)]
"""Whoever sent a valid key or the operator's token. A suspended account may only read."""


async def _operator(caller: Caller) -> Principal:
    if not caller.operator:
        raise ApiError(403, "operator_only", "Only the operator may do this.", what_to_do="Use the operator's token.")
    return caller


Operator = Annotated[Principal, Depends(_operator)]


def require_scope(caller: Principal, scope: Scope) -> None:
    """Raise 403 where the caller's key lacks `scope`."""
    if scope not in caller.scopes:
        raise ApiError(
            403,
            "missing_scope",
            f"This key lacks the scope `{scope}`.",
            what_to_do=f"Use a key that was created with the scope `{scope}`.",
        )


def acting_account(caller: Principal, account: str | None) -> str:
    """The account that a call is about: the caller's own, or for the operator the one it names.

    `me` is the caller's own. Another account's is the same 404 as an unknown one.
    """
    if account is None or account == "me":
        return caller.account
    if not caller.may_act_for(account):
        raise ApiError(
            404,
            "not_found",
            f"There is no account {account[:40]}.",
            field="account",
            what_to_do="A key acts for its own account: leave `account` out.",
        )
    return account
