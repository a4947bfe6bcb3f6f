"""Accounts and keys, over HTTP at a real process, on SQLite and on PostgreSQL, with real Kafka behind."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from adapters.api_keys import ApiKeys, NotAuthenticated
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from schemas import codec
from schemas.accounts import AccountState
from schemas.topics import ACCOUNTS, USAGE
from schemas.usage import TokensUsed
from tests.servers.control_process import ControlProcess, running_control
from tests.servers.databases import empty_database
from tests.servers.topic_reading import records_of

DEADLINE_S = 60


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def accounts(
    request: pytest.FixtureRequest, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlProcess]:
    asyncio.run(create_topics(kafka))
    settings = {"HYDRA_ACCOUNTS_LAST_USED_EVERY_S": "0.1"}
    home = tmp_path_factory.mktemp("accounts") / "home"
    settings["HYDRA_ACCOUNTS_DATABASE_URL"] = asyncio.run(empty_database(request.param, request, home))
    with running_control("accounts", home, kafka, **settings) as running:
        yield running


@pytest.fixture
def operator(accounts: ControlProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=accounts.url, headers=accounts.operator, timeout=30) as client:
        yield client


@pytest.fixture
async def checked(accounts: ControlProcess, kafka: str) -> AsyncIterator[ApiKeys]:
    """Another service's view of who may call."""
    keys = ApiKeys(kafka, "another token")
    task = asyncio.create_task(keys.run())
    yield keys
    task.cancel()
    await asyncio.wait([task])


def created(operator: httpx.Client, **fields: Any) -> str:
    answer = operator.post("/v1/accounts", json={"name": "acme", **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def key_for(operator: httpx.Client, account: str, **fields: Any) -> dict[str, Any]:
    answer = operator.post(f"/v1/accounts/{account}/keys", json=fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def code(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error", {}).get("code")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def customer(accounts: ControlProcess, key: dict[str, Any]) -> httpx.Client:
    """A client with a key that the service itself has come to know."""
    client = httpx.Client(base_url=accounts.url, headers={"Authorization": f"Bearer {key['key']}"}, timeout=30)
    eventually(lambda: client.get("/v1/accounts/me").status_code == 200)
    return client


def test_an_account_is_created_shown_and_changed(operator: httpx.Client) -> None:
    account = created(operator, name="Ünïcode 账户", spend_limit="12.50")
    shown = operator.get(f"/v1/accounts/{account}").json()
    assert shown | {"created": None} == {
        "id": account,
        "name": "Ünïcode 账户",
        "status": "active",
        "currency": "CNY",
        "spend_limit": "12.5",
        "created": None,
    }
    assert operator.patch(f"/v1/accounts/{account}", json={"spend_limit": None}).json()["spend_limit"] is None
    assert operator.patch(f"/v1/accounts/{account}", json={"spend_limit": "100"}).json()["spend_limit"] == "100"
    assert operator.patch(f"/v1/accounts/{account}", json={"status": "suspended"}).json()["status"] == "suspended"
    assert operator.patch(f"/v1/accounts/{account}", json={"status": "closed"}).json()["status"] == "closed"
    assert code(operator.patch(f"/v1/accounts/{account}", json={"status": "active"})) == (409, "account_closed")
    assert code(operator.post(f"/v1/accounts/{account}/keys", json={})) == (409, "account_closed")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"name": "x", "spend_limit": "-1"}, "spend_limit"),
        ({"name": "x", "spend_limit": "0.0000000000001"}, "spend_limit"),
        ({"name": "x", "spend_limit": "NaN"}, "spend_limit"),
        ({"name": "x", "currency": "yuan"}, "currency"),
        ({"name": "x", "currency": "USD"}, "currency"),
        ({"name": "x", "id": "u-000000000000"}, "id"),
    ],
)
def test_a_wrong_account_is_refused_by_its_field(operator: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = operator.post("/v1/accounts", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_an_account_is_in_the_one_currency_that_limits_count(operator: httpx.Client) -> None:
    error = operator.post("/v1/accounts", json={"name": "x", "currency": "USD"}).json()["error"]
    assert "CNY" in error["message"]
    assert operator.get(f"/v1/accounts/{created(operator, currency='CNY')}").json()["currency"] == "CNY"


def test_the_operators_account_is_there_and_stays(operator: httpx.Client) -> None:
    assert operator.get("/v1/accounts/public").json()["status"] == "active"
    assert operator.get("/v1/accounts/me").json()["id"] == "public"
    assert code(operator.patch("/v1/accounts/public", json={"status": "closed"})) == (409, "operator_account")


def test_lists_come_in_pages_without_gaps(operator: httpx.Client) -> None:
    account = created(operator)
    made = [key_for(operator, account, name=f"key {number}")["id"] for number in range(5)]
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = operator.get(f"/v1/accounts/{account}/keys", params=query).json()
        assert len(page["data"]) <= 2
        found += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert found == made
    for wrong in ("nonsense", "WyJhIl0", "WyJhIiwgImIiXQ"):
        assert code(operator.get("/v1/accounts", params={"cursor": wrong})) == (400, "invalid_cursor")


async def test_a_key_works_elsewhere_until_it_is_disabled_or_deleted(operator: httpx.Client, checked: ApiKeys) -> None:
    account = created(operator)
    key = key_for(operator, account)
    path = f"/v1/accounts/{account}/keys/{key['id']}"

    async def answers(expected: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    found = checked.principal(f"Bearer {key['key']}").account if checked.caught_up else "reading"
                except NotAuthenticated as error:
                    found = error.code
                if found == expected:
                    return
                await asyncio.sleep(0.05)

    await answers(account)
    assert checked.principal(f"Bearer {key['key']}").scopes == {"inference", "billing"}
    await asyncio.to_thread(operator.patch, path, json={"status": "disabled"})
    await answers("disabled_api_key")
    await asyncio.to_thread(operator.patch, path, json={"status": "active"})
    await answers(account)
    await asyncio.to_thread(operator.patch, f"/v1/accounts/{account}", json={"status": "closed"})
    await answers("account_closed")
    assert (await asyncio.to_thread(operator.delete, path)).json()["status"] == "deleted"
    await answers("invalid_api_key")
    assert code(await asyncio.to_thread(operator.get, path)) == (404, "not_found")
    assert (await asyncio.to_thread(operator.get, f"/v1/accounts/{account}/keys")).json()["data"] == []


def test_a_key_is_shown_once_and_kept_nowhere(accounts: ControlProcess, operator: httpx.Client) -> None:
    account = created(operator)
    made = operator.post(
        f"/v1/accounts/{account}/keys", json={"name": "once"}, headers={"Idempotency-Key": secrets.token_hex(8)}
    ).json()
    assert made["masked"] == f"{made['key'][:7]}...{made['key'][-4:]}"
    assert "nonce" not in made
    listed = operator.get(f"/v1/accounts/{account}/keys").text
    secret = made["key"][3:]
    assert secret not in listed
    files = [path for path in accounts.home.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_repeated_request_is_answered_the_same_and_done_once(operator: httpx.Client) -> None:
    account = created(operator)
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    path = f"/v1/accounts/{account}/keys"
    first = operator.post(path, json={"name": "a"}, headers=headers)
    again = operator.post(path, json={"name": "a"}, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert code(operator.post(path, json={"name": "b"}, headers=headers)) == (409, "idempotency_key_reused")
    assert len(operator.get(path).json()["data"]) == 1
    assert code(operator.post(path, json={}, headers={"Idempotency-Key": "not one word"}))[0] == 400
    a_key = {"Idempotency-Key": f"sk-{secrets.token_urlsafe(32)}"}
    assert code(operator.post(path, json={}, headers=a_key)) == (400, "invalid_idempotency_key")


def test_customers_act_in_their_own_account_within_their_scopes(
    accounts: ControlProcess, operator: httpx.Client
) -> None:
    mine, other = created(operator), created(operator)
    manager = customer(accounts, key_for(operator, mine, scopes=["manage"]))
    reader = customer(accounts, key_for(operator, mine))
    made = manager.post("/v1/accounts/me/keys", json={"name": "by the customer"})
    assert (made.status_code, made.json()["account"]) == (201, mine)
    assert code(reader.post("/v1/accounts/me/keys", json={})) == (403, "missing_scope")
    for refused in (
        manager.get(f"/v1/accounts/{other}"),
        manager.get(f"/v1/accounts/{other}/keys"),
        manager.post(f"/v1/accounts/{other}/keys", json={}),
        manager.get("/v1/accounts/u-ffffffffffff"),
    ):
        assert code(refused) == (404, "not_found")
    assert code(manager.get("/v1/accounts")) == (403, "operator_only")
    assert code(manager.patch(f"/v1/accounts/{mine}", json={"spend_limit": None})) == (403, "operator_only")
    operator.patch(f"/v1/accounts/{mine}", json={"status": "suspended"})
    eventually(lambda: code(manager.post("/v1/accounts/me/keys", json={"name": "no"})) == (403, "account_suspended"))
    assert manager.get("/v1/accounts/me/keys").status_code == 200


async def test_a_key_shows_when_it_was_last_used(operator: httpx.Client, kafka: str) -> None:
    account = created(operator)
    key = key_for(operator, account)
    path = f"/v1/accounts/{account}/keys/{key['id']}"
    assert (await asyncio.to_thread(operator.get, path)).json()["last_used"] is None
    async with EventProducer(kafka) as producer:
        await producer.publish(USAGE, account, b"nonsense")
        before_utc_begins = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8)))
        await producer.publish(USAGE, account, _usage(account, "k-ffffffffffff", before_utc_begins))
        for second in (7, 5):
            at = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
            await producer.publish(USAGE, account, _usage(account, key["id"], at))
    await asyncio.to_thread(eventually, lambda: operator.get(path).json()["last_used"] == "2026-01-01T00:00:07Z")


def _usage(account: str, key_id: str, at: datetime) -> bytes:
    request = f"cmp-{secrets.token_hex(16)}"
    usage = TokensUsed(
        request_id=request,
        account=account,
        key_id=key_id,
        access_path="public/deepseek-r1",
        endpoint="chat.completions",
        streamed=False,
        received=at,
        ended=at,
        outcome="refused",
        status=404,
    )
    return codec.encode(codec.event(usage, id=request, source="/test", subject=account, time=at))


def test_its_openapi_has_every_route_with_examples(operator: httpx.Client) -> None:
    document = operator.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/accounts",
        "/v1/accounts/{account}",
        "/v1/accounts/{account}/keys",
        "/v1/accounts/{account}/keys/{key_id}",
    }
    create = document["paths"]["/v1/accounts/{account}/keys"]["post"]
    assert {"201", "400", "401", "403", "404", "409", "503"} <= set(create["responses"])
    assert [parameter["name"] for parameter in create["parameters"]] == ["account", "Idempotency-Key"]
    assert document["components"]["schemas"]["KeyCreate"]["examples"]


async def test_changes_at_once_are_all_done_and_published_in_their_order(accounts: ControlProcess, kafka: str) -> None:
    async with httpx.AsyncClient(base_url=accounts.url, headers=accounts.operator, timeout=60) as operator:
        account = (await operator.post("/v1/accounts", json={"name": "0"})).json()["id"]
        path = f"/v1/accounts/{account}"
        names = [str(number) for number in range(1, 26)]
        changes = [operator.patch(path, json={"name": name}) for name in names]
        assert {answer.status_code for answer in await asyncio.gather(*changes)} == {200}
        last = (await operator.get(path)).json()["name"]

    async def published() -> list[AccountState]:
        found = [record for record in await records_of(kafka, ACCOUNTS) if record.key == account.encode()]
        return [codec.decode(record.value, AccountState).data for record in found]

    async with asyncio.timeout(DEADLINE_S):
        while True:
            states = await published()
            if states and states[-1].version == 26:
                break
            await asyncio.sleep(0.1)
    assert [state.version for state in states] == list(range(1, 27))
    assert {state.name for state in states} == {"0", *names}
    assert states[-1].name == last


async def test_the_same_request_twice_at_once_is_done_once(accounts: ControlProcess) -> None:
    async with httpx.AsyncClient(base_url=accounts.url, headers=accounts.operator, timeout=60) as operator:
        account = (await operator.post("/v1/accounts", json={"name": "a"})).json()["id"]
        path, headers = f"/v1/accounts/{account}/keys", {"Idempotency-Key": secrets.token_hex(8)}
        answers = await asyncio.gather(*(operator.post(path, json={}, headers=headers) for _ in range(5)))
        listed = (await operator.get(path)).json()["data"]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["key"] for answer in answers}) == 1
    assert len(listed) == 1
