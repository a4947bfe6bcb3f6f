"""Every parameter of every control service given what breaks out of SQL, text or numbers: refused, or just a value."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.writing import Batch, write
from tests.integration.clickhouse.conftest import charge_row, usage_row
from tests.security.conftest import Control
from tests.security.test_every_route_by_every_caller import ROUTES, SERVICES

MARK = "only-the-other-account-may-see-this"
BREAKING_OUT = [
    "'",
    "\\",
    "\\'",
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "x' OR '1'='1",
    "') OR 1=1 UNION ALL SELECT * FROM v_charges --",
    "x'; DROP TABLE charges; --",
    "{account:String}",
    "{after_id:String} OR 1",
    "%27%20OR%201%3D1",
    "x\x00' OR 1=1",
    "x\r\nSet-Cookie: a=b",
    "\u02bc OR 1=1",
    "`; SELECT 1",
    "$$ OR 1=1 $$",
    "1e999",
    "-1",
    "9" * 400,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2026-01-01T00:00:00+23:59",
    "a" * 3_000,
]


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


FORGED_CURSORS = [
    cursor("0001-01-01T00:00:00+00:00", "' OR 1=1 --", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"),
    cursor("9999-12-31T23:59:59-23:00", "x", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00"),
    cursor("2026-01-01T00:00:00+00:00", "\x00\\'", "1800-01-01T00:00:00+00:00", "2400-01-01T00:00:00+00:00"),
    cursor("0001-01-01T00:00:00+14:00", "u-' OR 1=1 --"),
    cursor("' OR 1=1 --", "000000001"),
    cursor(["a"], {"b": 1}),
    base64.urlsafe_b64encode(b"[" * 700).decode(),
    "\ud800".encode("utf-8", "surrogatepass").hex(),
]


@pytest.fixture(scope="module")
def marked(control: Control) -> Iterator[Control]:
    """The second account has usage and charges, each with the mark; the first has none."""
    asyncio.run(fill(control))
    yield control


async def fill(control: Control) -> None:
    clickhouse = ClickHouse(control.database)
    other = control.accounts[1]
    batch = Batch(
        usage=[usage_row("cmp-1", account=other, access_path=MARK, model=MARK)],
        charges=[charge_row("cmp-1/input", "cmp-1", account=other, resource=MARK, model=MARK)],
    )
    await write(clickhouse, batch)
    await clickhouse.close()


def parameters() -> list[tuple[str, str, str]]:
    """(service, path, name) of each query parameter of the reading routes, and of each part of a path."""
    named = {
        "/v1/usage": "account month from until",
        "/v1/bill": "account month",
        "/v1/requests": "account month from until limit cursor",
        "/v1/charges": "account month from until source limit cursor",
        "/v1/prices": "model all limit cursor",
        "/v1/services": "account limit cursor",
        "/v1/services/{name}": "account name",
        "/v1/services/{name}/instances": "account name limit cursor",
        "/v1/accounts": "limit cursor",
        "/v1/accounts/{account}": "account",
        "/v1/accounts/{account}/keys": "account limit cursor",
        "/v1/accounts/{account}/keys/{key_id}": "account key_id",
    }
    by_path = {path: service for service, method, path in ROUTES if method == "GET"}
    return [(by_path[path], path, name) for path, names in named.items() for name in names.split()]


def test_every_parameter_of_every_reading_route_is_tried(control: Control) -> None:
    found = set()
    for service in SERVICES:
        paths = control.ask(service, "GET", "/openapi.json", None).json()["paths"]
        for path, methods in paths.items():
            for one in methods.get("get", {}).get("parameters", []):
                found.add((service, path, one["name"]))
    assert found == set(parameters())


@pytest.mark.parametrize(("service", "path", "name"), parameters(), ids=lambda part: str(part))
def test_no_value_breaks_out_of_its_place(marked: Control, service: str, path: str, name: str) -> None:
    mine = marked.accounts[0]
    for value in [*BREAKING_OUT, *FORGED_CURSORS]:
        in_path = {"account": mine, "name": "probe", "key_id": "k-000000000000"}
        dated = service != "billing" or path == "/v1/prices" or name in ("from", "until", "cursor")
        query = {} if dated else {"month": "2026-03"}
        if "{" + name + "}" in path:
            in_path[name] = "".join(f"%{byte:02x}" for byte in value.encode())
        else:
            query[name] = value
        target = path.format(**in_path)
        for who in (marked.keys[mine, "all"], "operator"):
            # The operator may name any account: it names the one that has nothing.
            named = {"account": mine} if who == "operator" and service == "billing" and path != "/v1/prices" else {}
            answer = marked.ask(service, "GET", target, who, params=named | query)
            assert answer.status_code < 500, (value, who[:3], answer.text)
            assert MARK not in answer.text, value
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/requests", "/v1/charges"])
def test_a_forged_cursor_or_year_asks_for_no_more_than_an_honest_one(marked: Control, path: str) -> None:
    key = marked.keys[marked.accounts[0], "all"]
    years = [
        {"from": "0001-01-01T00:00:00+14:00"},
        {"until": "0001-01-02T00:00:00Z"},
        {"from": "0001-01-01T00:00:00Z", "until": "0001-01-02T00:00:00Z"},
        {"from": "9999-12-30T00:00:00Z", "until": "9999-12-31T23:59:59-14:00"},
        {"from": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
    ]
    if path != "/v1/usage":
        first = ("2026-01-01T00:00:00+00:00", "x")
        years.append({"cursor": cursor(*first, "2000-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00")})
    for query in years:
        answer = marked.ask("billing", "GET", path, key, params=query)
        assert answer.status_code == 400, (query, answer.text)


def test_the_mark_is_seen_by_whom_it_belongs_to(marked: Control) -> None:
    key = marked.keys[marked.accounts[1], "all"]
    for path in ("/v1/usage", "/v1/bill", "/v1/requests", "/v1/charges"):
        assert MARK in marked.ask("billing", "GET", path, key, params={"month": "2026-03"}).text


BODIES = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"[" * 60_000,
    b'{"a":' * 12_000,
    b'{"name":' + b"9" * 60_000 + b"}",
    b'{"name":1e400,"replicas":1e400,"spend_limit":1e400}',
    b'{"name":NaN,"replicas":Infinity}',
    b'{"name":"\\ud800","confirm":"\\ud800","replicas":"\\ud800"}',
    b'{"name":"a\\u0000b","replicas":"1\\u0000"}',
    b'{"name":"x","spend_limit":"1e999999999"}',
    b'{"name":"x","spend_limit":"-0.0000000000000000000000001"}',
    b'{"name":"x","spend_limit":"' + b"9" * 60_000 + b'"}',
    b'{"name":"x","replicas":"+' + b"9" * 6_000 + b'"}',
    b'{"name":"x","replicas":-9223372036854775809}',
    b'{"__proto__":{"operator":true},"scopes":["inference","manage","operator"]}',
    b'{"name":"x","account":"u-000000000000","id":"u-000000000000","status":"active","operator":true}',
]


@pytest.mark.parametrize(
    "at", [at for at in ROUTES if at[1] in ("POST", "PATCH", "DELETE")], ids=lambda at: " ".join(at)
)
def test_no_body_is_an_error_of_ours(control: Control, at: tuple[str, str, str]) -> None:
    service, method, path = at
    mine = control.accounts[0]
    target = path.format(account=mine, name="probe", key_id="k-000000000000")
    for body in BODIES:
        for encoding in ("", "gzip", "chunked, gzip"):
            headers = {"Content-Type": "application/json"} | ({"Content-Encoding": encoding} if encoding else {})
            answer = control.ask(service, method, target, "operator", content=body, headers=headers)
            assert answer.status_code < 500, (body[:60], answer.text)
            assert "Traceback" not in answer.text


@pytest.mark.parametrize("value", ["a\tb", "é", "x" * 256, '"', "a b"])
def test_an_idempotency_key_of_another_form_is_refused_and_not_shown(control: Control, value: str) -> None:
    headers = {"Idempotency-Key": value.encode()}
    answer = control.ask("accounts", "POST", "/v1/accounts", "operator", json={"name": "x"}, headers=headers)
    assert answer.status_code == (201 if value == '"' else 400)
    assert not [name for name in answer.headers if "idempotency" in name]


def test_names_that_a_proxy_sends_decide_nothing(control: Control) -> None:
    """Neither the host that is named nor what is said of where the request came from comes back in an answer."""
    names = ("Host", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Forwarded", "X-Original-URL")
    for service in SERVICES:
        for path in ("/v1/models/", "/v1/accounts/", "/v1/bill/", "/health/live/", "//evil.example/", "/docs/"):
            headers = dict.fromkeys(names, "evil.example")
            answer = control.ask(service, "GET", path, "operator", headers=headers, follow_redirects=False)
            assert answer.status_code == 404, (service, path)
            assert "evil.example" not in str(answer.headers)
