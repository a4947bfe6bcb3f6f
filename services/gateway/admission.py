"""Who may send what where: keys, scopes, spend limits, and what each host serves. All from state topics, in memory."""

from __future__ import annotations

from hashlib import sha256

from domain.ids import OPERATOR_ACCOUNT
from schemas.accounts import AccountState, ApiKeyState
from schemas.spend import BalanceStated
from services.gateway import answers
from services.gateway.models import Caller, Service

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", ""})


class Serves:
    """What one host serves: shared models, and own services of one region (`*` of all)."""

    __slots__ = ("region", "shared")

    def __init__(self, *, shared: bool, region: str | None) -> None:
        self.shared = shared
        self.region = region

    def serves(self, service: Service) -> bool:
        state = service.state
        if state.account == OPERATOR_ACCOUNT:
            return self.shared
        return self.region == "*" or self.region == state.region


_EVERYTHING = Serves(shared=True, region="*")
_NOTHING = Serves(shared=False, region=None)
_SHARED = Serves(shared=True, region=None)


class Hosts:
    """Host header to what it serves. Without a domain of ours every host serves everything."""

    def __init__(self, domain: str | None) -> None:
        self._domain = domain.lower().strip(".") if domain else None
        self._known: dict[bytes, Serves] = {}

    def of(self, host: bytes | None) -> Serves:
        if host is None:
            return _EVERYTHING if self._domain is None else _NOTHING
        known = self._known.get(host)
        if known is None:
            known = self._find(host)
            if len(self._known) < 1000:  # hosts are the client's words: remember only so many
                self._known[host] = known
        return known

    def _find(self, host: bytes) -> Serves:
        if self._domain is None:
            return _EVERYTHING
        name = host.decode("latin-1").lower()
        if not name.endswith("]"):
            name = name.rsplit(":", 1)[0] if ":" in name else name
        name = name.rstrip(".")
        if name in _LOCAL:
            return _EVERYTHING
        label, _, rest = name.partition(".")
        if rest != self._domain:
            return _NOTHING
        return _SHARED if label == "chat" else Serves(shared=False, region=label)


class Admission:
    """Callers by their key's hash. What a state says is worked out when it arrives, not when a request does."""

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}
        self._keys: dict[str, ApiKeyState] = {}
        self._accounts: dict[str, AccountState] = {}
        self._balances: dict[str, BalanceStated] = {}
        self._keys_of: dict[str, set[str]] = {}

    def apply_key(self, key_id: str, state: ApiKeyState | None) -> None:
        before = self._keys.pop(key_id, None)
        if before is not None:
            self._callers.pop(before.key_hash, None)
            self._keys_of.get(before.account, set()).discard(key_id)
        if state is not None:
            self._keys[key_id] = state
            self._keys_of.setdefault(state.account, set()).add(key_id)
            self._settle(state)

    def apply_account(self, account: str, state: AccountState | None) -> None:
        if state is None:
            self._accounts.pop(account, None)
        else:
            self._accounts[account] = state
        self._settle_account(account)

    def apply_balance(self, account: str, state: BalanceStated | None) -> None:
        if state is None:
            self._balances.pop(account, None)
        else:
            self._balances[account] = state
        self._settle_account(account)

    def _settle_account(self, account: str) -> None:
        for key_id in self._keys_of.get(account, ()):
            self._settle(self._keys[key_id])

    def _settle(self, key: ApiKeyState) -> None:
        caller = Caller(key)
        account = self._accounts.get(key.account)
        if key.status != "active":
            caller.refused = answers.revoked_key()
        elif account is None or account.status != "active":
            caller.refused = answers.account_inactive()
        balance = self._balances.get(key.account)
        if account is not None and account.spend_limit is not None:
            spent = balance.spent_total.get(account.currency, 0) if balance is not None else 0
            caller.over_limit = spent >= account.spend_limit
        self._callers[key.key_hash] = caller

    def caller(self, authorization: bytes | None) -> Caller:
        """Whose key this is, even where it may do nothing any more. Raises Refusal (401) where it is nobody's."""
        if not authorization:
            raise answers.no_key()
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise answers.no_key()
        caller = self._callers.get(sha256(key.strip()).hexdigest())
        if caller is None:
            raise answers.wrong_key()
        return caller


def service_for(model: str, caller: Caller, serves: Serves, services: dict[str, Service]) -> Service:
    """The service that `model` names for this caller. Raises Refusal (404), the same whatever the reason."""
    service = services.get(model)
    if service is None or not serves.serves(service):
        raise answers.unknown_model(model)
    owner = service.state.account
    if owner not in (OPERATOR_ACCOUNT, caller.account) or service.state.status in ("deleting", "deleted"):
        raise answers.unknown_model(model)
    return service


def unavailable(service: Service) -> answers.Refusal:
    """Why no instance of it takes a request."""
    state = service.state
    if service.instances:
        return answers.overloaded()
    if state.status in ("stopping", "stopped"):
        return answers.stopped()
    if not state.ever_ready and state.status == "deploying":
        return answers.still_deploying()
    return answers.no_instance()


def callable_now(caller: Caller, serves: Serves, services: dict[str, Service]) -> list[Service]:
    """What GET /v1/models lists: services that this key can call now, by access path."""
    return sorted(
        (service for service in services.values() if can_call(caller, serves, service)),
        key=lambda service: service.state.access_path,
    )


def can_call(caller: Caller, serves: Serves, service: Service) -> bool:
    """Whether this key can call it now, on a host that serves it."""
    return (
        bool(service.instances)
        and serves.serves(service)
        and service.state.account in (OPERATOR_ACCOUNT, caller.account)
        and service.state.status not in ("deleting", "deleted", "stopping", "stopped")
    )
