"""Every route of every control service, as its OpenAPI names them, asked by every kind of caller."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.security.conftest import SCOPES, Control

SERVICES = ("accounts", "lifecycle", "billing")


@dataclass(frozen=True)
class Route:
    """Who may: a scope, `operator`, or `anyone` with a key. `names_account` routes say whose they are about."""

    who: str
    names_account: bool = True
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict)


DEPLOY = {"name": "probe", "model": "phi-4", "region": "sh-02", "spec": "l20-1x48g", "replicas": 1}
ROUTES: dict[tuple[str, str, str], Route] = {
    ("accounts", "POST", "/v1/accounts"): Route("operator", names_account=False, body={"name": "x"}),
    ("accounts", "GET", "/v1/accounts"): Route("operator", names_account=False),
    ("accounts", "GET", "/v1/accounts/{account}"): Route("anyone"),
    ("accounts", "PATCH", "/v1/accounts/{account}"): Route("operator", body={"name": "renamed"}),
    ("accounts", "POST", "/v1/accounts/{account}/keys"): Route("manage", body={"name": "made"}),
    ("accounts", "GET", "/v1/accounts/{account}/keys"): Route("manage"),
    ("accounts", "GET", "/v1/accounts/{account}/keys/{key_id}"): Route("manage"),
    ("accounts", "PATCH", "/v1/accounts/{account}/keys/{key_id}"): Route("manage", body={"name": "renamed"}),
    ("accounts", "DELETE", "/v1/accounts/{account}/keys/{key_id}"): Route("manage"),
    ("lifecycle", "GET", "/v1/models"): Route("anyone", names_account=False),
    ("lifecycle", "GET", "/v1/services"): Route("manage"),
    ("lifecycle", "POST", "/v1/services"): Route("manage", body=DEPLOY),
    ("lifecycle", "GET", "/v1/services/{name}"): Route("manage"),
    ("lifecycle", "DELETE", "/v1/services/{name}"): Route("manage", query={"confirm": "probe"}),
    ("lifecycle", "GET", "/v1/services/{name}/instances"): Route("manage"),
    ("lifecycle", "POST", "/v1/services/{name}/scale"): Route("manage", body={"replicas": 1}),
    ("lifecycle", "POST", "/v1/services/{name}/stop"): Route("manage"),
    ("lifecycle", "POST", "/v1/services/{name}/start"): Route("manage"),
    ("billing", "GET", "/v1/usage"): Route("billing"),
    ("billing", "GET", "/v1/requests"): Route("billing"),
    ("billing", "GET", "/v1/charges"): Route("billing"),
    ("billing", "GET", "/v1/bill"): Route("billing"),
    ("billing", "GET", "/v1/prices"): Route("anyone", names_account=False),
}
REFUSED = {401, 403}


def ask(control: Control, at: tuple[str, str, str], key: str | None, account: str) -> tuple[int, str]:
    """The answer's status and error code. Keys and services named in paths are ones that do not exist."""
    service, method, path = at
    route = ROUTES[at]
    query = dict(route.query)
    if route.names_account and "{account}" not in path:
        query["account"] = account
    target = path.replace("{account}", account).replace("{key_id}", "k-000000000000").replace("{name}", "probe")
    answer = control.ask(service, method, target, key, params=query, json=route.body if method != "GET" else None)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def test_the_table_names_every_route_that_there_is(control: Control) -> None:
    found = set()
    for service in SERVICES:
        paths = control.ask(service, "GET", "/openapi.json", None).json()["paths"]
        found |= {(service, method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == set(ROUTES)


@pytest.mark.parametrize("at", ROUTES, ids=lambda at: " ".join(at))
@pytest.mark.parametrize("key", [None, "x", "sk-" + "A" * 43, "op-" + "A" * 43], ids=["none", "word", "key", "token"])
def test_nobody_without_a_key_that_counts_gets_anything(
    control: Control, at: tuple[str, str, str], key: str | None
) -> None:
    assert ask(control, at, key, control.accounts[0])[0] == 401


@pytest.mark.parametrize("at", ROUTES, ids=lambda at: " ".join(at))
def test_each_scope_opens_what_is_its_own_and_no_more(control: Control, at: tuple[str, str, str]) -> None:
    mine, who = control.accounts[0], ROUTES[at].who
    for scope in SCOPES:
        status, code = ask(control, at, control.keys[mine, scope], mine)
        if who in ("anyone", scope):
            assert status not in REFUSED and status < 500, (scope, status, code)
        elif who == "operator":
            assert (status, code) == (403, "operator_only"), scope
        else:
            assert (status, code) == (403, "missing_scope"), scope
    assert ask(control, at, "operator", mine)[0] not in REFUSED


@pytest.mark.parametrize("at", [at for at in ROUTES if ROUTES[at].names_account], ids=lambda at: " ".join(at))
def test_another_account_is_as_if_it_did_not_exist(control: Control, at: tuple[str, str, str]) -> None:
    mine, other = control.accounts
    key = control.keys[mine, "all"]
    theirs, unknown = ask(control, at, key, other), ask(control, at, key, "u-000000000000")
    assert theirs == unknown
    assert theirs[0] in (403, 404)
    # The operator's account is another's too.
    assert ask(control, at, key, "public")[0] in (403, 404)
