"""Who is calling: the check of keys that all control services share, fed by `hydra.accounts` and `hydra.api-keys`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass

from adapters.errors import HydraError, Unavailable
from adapters.kafka.state_topic import StateTopic
from domain.ids import KEY, OPERATOR_ACCOUNT, key_hash
from schemas.accounts import AccountState, AccountStatus, ApiKeyState, KeyStatus, Scope
from schemas.topics import ACCOUNTS, API_KEYS

ALL_SCOPES: frozenset[Scope] = frozenset({"inference", "billing", "manage"})


class NotAuthenticated(HydraError):
    """Answer 401: `code` is stable, the text is a sentence that names no key."""

    def __init__(self, code: str, message: str, what_to_do: str) -> None:
        super().__init__(message)
        self.code = code
        self.what_to_do = what_to_do


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who calls. The operator acts for the account `public` by itself and for any account that it names."""

    account: str
    operator: bool
    scopes: frozenset[Scope]
    account_status: AccountStatus = "active"
    key_id: str | None = None

    def may_act_for(self, account: str) -> bool:
        return self.operator or account == self.account


class ApiKeys:
    """Follows both topics and answers from memory; with Kafka away it goes on with what it knows.

    Until both are caught up once, every customer's key is answered by Unavailable, never by a refusal that might be
    wrong. The operator's token needs no topic.
    """

    def __init__(self, bootstrap: str, operator_token: str) -> None:
        self._token_digest = hashlib.sha256(operator_token.encode()).digest()
        self._by_hash: dict[str, ApiKeyState] = {}
        self._hash_of: dict[str, str] = {}
        self.accounts = StateTopic(bootstrap, ACCOUNTS, AccountState)
        self._keys = StateTopic(bootstrap, API_KEYS, ApiKeyState, self._changed)

    async def run(self) -> None:
        """Follow both topics until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.accounts.run())
            group.create_task(self._keys.run())

    async def catch_up(self) -> None:
        """Return once all is known that both topics hold now. Raises Unavailable."""
        await asyncio.gather(self.accounts.catch_up(), self._keys.catch_up())

    @property
    def caught_up(self) -> bool:
        """Whether everything is known that both topics held at start."""
        return self.accounts.caught_up.is_set() and self._keys.caught_up.is_set()

    @property
    def reason(self) -> str:
        """Why customers' keys cannot be checked yet; empty when they can."""
        return "" if self.caught_up else "API keys are still being read from Kafka"

    def account_closed(self, account: str) -> bool:
        """Whether this account is known to be closed; nothing opens it again."""
        state = self.accounts.states.get(account)
        return state is not None and state.status == "closed"

    def principal(self, authorization: str | None) -> Principal:
        """Who sent `Authorization: <authorization>`. Raises NotAuthenticated, or Unavailable before the catch-up."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated(
                "missing_api_key", "No API key was given.", "Send the header `Authorization: Bearer <API key>`."
            )
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(digest, self._token_digest):
            return Principal(account=OPERATOR_ACCOUNT, operator=True, scopes=ALL_SCOPES)
        if not KEY.fullmatch(token):
            raise _wrong()
        if not self.caught_up:
            raise Unavailable(self.reason)
        return self._customer(token)

    def _customer(self, token: str) -> Principal:
        # Looked up by hash: how long that takes tells nothing about keys that are near.
        key = self._by_hash.get(key_hash(token))
        if key is None:
            raise _wrong()
        account = self.accounts.states.get(key.account)
        check_usable(key.status, account.status if account else None)
        if account is None:
            raise Unavailable("the account of this key is not known yet")
        return Principal(
            account=key.account,
            operator=False,
            scopes=frozenset(key.scopes),
            account_status=account.status,
            key_id=key.key_id,
        )

    def _changed(self, key_id: str, state: ApiKeyState | None) -> None:
        old = self._hash_of.pop(key_id, None)
        if old is not None:
            self._by_hash.pop(old, None)
        if state is not None:
            self._by_hash[state.key_hash] = state
            self._hash_of[key_id] = state.key_hash


def check_usable(key: KeyStatus, account: AccountStatus | None) -> None:
    """Raise NotAuthenticated where a key, or its account as far as that is known, has a status that ends its use."""
    if key == "deleted":
        raise _wrong()
    if key == "disabled":
        raise NotAuthenticated(
            "disabled_api_key", "This API key is disabled.", "Enable it or use another key of the account."
        )
    if account == "closed":
        raise NotAuthenticated("account_closed", "This account is closed.", "Ask the operator.")


def _wrong() -> NotAuthenticated:
    return NotAuthenticated(
        "invalid_api_key", "This API key is not valid.", "Check it, or create a new one; a deleted key never returns."
    )
