"""The HTTP interface over a real socket: who may, what is refused and how, idempotency, details with examples."""

import ast
import asyncio
import json
import secrets
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from adapters.api_keys import ApiKeys
from adapters.kafka.producer import EventProducer
from domain import ids
from domain.catalogue import Catalogue
from schemas import codec
from schemas.accounts import AccountState, AccountStatus, ApiKeyState, Scope
from schemas.heartbeats import ReadyPeriod
from schemas.prices import PriceRecorded
from schemas.topics import ACCOUNTS, API_KEYS, PRICES
from services.lifecycle.application import lifecycle_app
from services.lifecycle.prices import ShownPrices
from services.lifecycle.running import Lifecycle
from services.lifecycle.settings import LifecycleSettings
from tests.integration.lifecycle.deploying import has_status, placed
from tests.integration.lifecycle.scripted_agent import ScriptedAgent
from tests.integration.lifecycle.topic_reading import Published, eventually

OPERATOR = "op-" + "x" * 43
NOW = datetime.now(UTC)


class Api:
    """Calls lifecycle as the operator, or with a customer's key."""

    def __init__(self, client: httpx.AsyncClient, api_keys: ApiKeys, producer: EventProducer) -> None:
        self.client = client
        self._api_keys = api_keys
        self._producer = producer

    async def call(
        self, method: str, path: str, *, key: str | None = OPERATOR, headers: dict[str, str] | None = None, **rest
    ) -> httpx.Response:
        authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await self.client.request(method, path, headers=authorization | (headers or {}), **rest)

    async def set_account(self, account: str, status: AccountStatus, version: int) -> None:
        """The account gets a status, and lifecycle knows it."""
        state = AccountState(account=account, version=version, name="a", status=status, created=NOW, currency="CNY")
        event = codec.event(state, id=f"{account}@{version}", source="/hydra/accounts", subject=account, time=NOW)
        await self._producer.publish(ACCOUNTS, account, codec.encode(event))
        await eventually(lambda: self._api_keys.accounts.states[account].version == version)

    async def customer(self, *scopes: Scope, status: AccountStatus = "active") -> tuple[str, str]:
        """A new account and a key of it."""
        account, key = f"u-{secrets.token_hex(6)}", ids.api_key(secrets.token_bytes(32))
        key_id = f"k-{secrets.token_hex(6)}"
        states = (
            (
                ACCOUNTS,
                account,
                AccountState(account=account, version=1, name="a", status=status, created=NOW, currency="CNY"),
            ),
            (
                API_KEYS,
                key_id,
                ApiKeyState(
                    key_id=key_id,
                    version=1,
                    account=account,
                    name="k",
                    key_hash=ids.key_hash(key),
                    masked=ids.masked_key(key),
                    scopes=scopes,
                    status="active",
                    created=NOW,
                ),
            ),
        )
        for topic, name, state in states:
            event = codec.event(state, id=f"{name}@1", source="/hydra/accounts", subject=name, time=NOW)
            await self._producer.publish(topic, name, codec.encode(event))

        async def known() -> bool:
            answer = await self.call("GET", "/v1/models", key=key)
            return answer.status_code == 200

        await eventually(known)
        return account, key


@pytest.fixture
async def api(
    lifecycle: Callable[..., AbstractAsyncContextManager[Lifecycle]],
    bootstrap: str,
    catalogue: Catalogue,
    settings: LifecycleSettings,
) -> AsyncIterator[Api]:
    api_keys, prices = ApiKeys(bootstrap, OPERATOR), ShownPrices(bootstrap)
    settings = settings.model_copy(update={"domain": "example.com", "gateway_url": "https://gateway:8443"})
    async with lifecycle(account_closed=api_keys.account_closed) as one, EventProducer(bootstrap) as producer:
        app = lifecycle_app(one, catalogue, api_keys, prices, settings, registry=CollectorRegistry())
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
        tasks = [asyncio.create_task(part) for part in (api_keys.run(), prices.run(), server.serve())]
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Api(client, api_keys, producer)
        server.should_exit = True
        await tasks[-1]
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    body = answer.json()["error"]
    assert body["message"] and body["what_to_do"], "every error says what was wrong and what helps"
    return answer.status_code, body["code"], body.get("field")


async def test_a_customer_deploys_scales_and_deletes_within_the_own_account(
    api: Api, agent: ScriptedAgent, published: Published, region: str
) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    account, key = await api.customer("inference", "manage")
    await agent.says_it_lives()
    made = await api.call("POST", "/v1/services", key=key, json={"name": "test", "model": "own-model"})
    assert made.status_code == 201, made.text
    service = made.json()
    assert service["access_path"] == f"{account}/test" and service["account"] == account
    assert (service["status"], service["replicas"], service["ready"]) == ("deploying", 1, 0)
    assert (service["region"], service["spec"]) == (region, "one")
    assert service["endpoint"] == f"https://{region}.example.com:8443/v1"
    (name,) = await placed(published, f"{account}/test")
    await agent.says(name, "ready", ReadyPeriod(number=1, began=NOW, ready_seconds=1))
    await has_status(published, f"{account}/test", "running")
    shown = (await api.call("GET", "/v1/services/test", key=key)).json()
    assert (shown["status"], shown["ready"]) == ("running", 1)
    assert [one["id"] for one in shown["instances"]] == [name]
    assert "node" not in shown["instances"][0] or shown["instances"][0]["node"] is None
    as_operator = (await api.call("GET", f"/v1/services/test?account={account}")).json()
    assert as_operator["instances"][0]["node"] == agent.node
    for asked, after in (("3", 3), ("+2", 5), (2, 2)):
        scaled = await api.call("POST", "/v1/services/test/scale", key=key, json={"replicas": asked})
        assert scaled.json()["replicas"] == after
    listed = (await api.call("GET", "/v1/services", key=key)).json()["data"]
    assert [(one["name"], one["replicas"]) for one in listed] == [("test", 2)]
    gone = await api.call("DELETE", "/v1/services/test?confirm=test", key=key)
    assert gone.status_code == 200 and gone.json()["status"] == "deleting"
    await agent.says(name, "ended", sent=datetime.now(UTC) + timedelta(seconds=1))
    await has_status(published, f"{account}/test", "deleted")
    assert error(await api.call("GET", "/v1/services/test", key=key))[:2] == (404, "not_found")
    again = await api.call("POST", "/v1/services", key=key, json={"name": "test", "model": "own-model"})
    assert again.status_code == 201 and again.json()["service_id"] != service["service_id"]


async def test_what_cannot_be_deployed_is_refused_with_the_field_and_a_choice(api: Api, region: str) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    _, key = await api.customer("manage")
    good = {"name": "test", "model": "own-model", "region": region, "spec": "one", "replicas": 1}
    wrong: list[tuple[dict[str, object], str, str]] = [
        ({"name": "T"}, "invalid_name", "name"),
        ({"name": "a" * 65}, "invalid_name", "name"),
        ({"name": "under_score"}, "invalid_name", "name"),
        ({"model": "gpt-9"}, "model_not_offered", "model"),
        ({"model": "shared-model"}, "model_not_offered", "model"),
        ({"region": "moon-1"}, "region_unknown", "region"),
        ({"spec": "huge"}, "spec_not_allowed", "spec"),
        ({"spec": "huge", "region": None}, "spec_not_allowed", "spec"),
        ({"spec": "huge", "region": ""}, "spec_not_allowed", "spec"),
        ({"replicas": 0}, "invalid_replicas", "replicas"),
        ({"replicas": 33}, "invalid_replicas", "replicas"),
        ({"replicas": "-1"}, "invalid_replicas", "replicas"),
        ({"replicas": True}, "invalid_request", "replicas"),
        ({"replicas": 1.5}, "invalid_request", "replicas"),
        ({"name": None}, "invalid_request", "name"),
        ({"colour": "red"}, "invalid_request", "colour"),
    ]
    for change, code, field in wrong:
        status, found, where = error(await api.call("POST", "/v1/services", key=key, json=good | change))
        assert (status, found) == (400, code), change
        assert where is not None and where.split(".")[0] == field, change
    assert (await api.call("GET", "/v1/services", key=key)).json()["data"] == []
    assert (await api.call("POST", "/v1/services", key=key, json=good)).status_code == 201
    assert error(await api.call("POST", "/v1/services", key=key, json=good)) == (409, "name_taken", "name")


async def test_who_may_do_what(api: Api) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    account, key = await api.customer("manage")
    other, other_key = await api.customer("manage")
    _, plain = await api.customer("inference", "billing")
    _, suspended = await api.customer("manage", status="suspended")
    body = {"name": "test", "model": "own-model"}
    assert (await api.call("POST", "/v1/services", key=key, json=body)).status_code == 201
    assert error(await api.call("GET", "/v1/services", key=None))[:2] == (401, "missing_api_key")
    assert error(await api.call("GET", "/v1/services", key="sk-" + "A" * 43))[:2] == (401, "invalid_api_key")
    assert error(await api.call("POST", "/v1/services", key=plain, json=body))[:2] == (403, "missing_scope")
    assert error(await api.call("POST", "/v1/services", key=suspended, json=body))[:2] == (403, "account_suspended")
    assert error(await api.call("GET", "/v1/services/test", key=other_key))[0] == 404
    assert error(await api.call("GET", f"/v1/services/test?account={account}", key=other_key))[0] == 404
    assert error(await api.call("POST", f"/v1/services?account={account}", key=other_key, json=body))[0] == 404
    assert error(await api.call("GET", "/v1/services?account=u-000000000000"))[:2] == (404, "not_found")
    made = await api.call("POST", f"/v1/services?account={other}", json=body)
    assert made.status_code == 201 and made.json()["account"] == other
    everyone = (await api.call("GET", "/v1/services")).json()["data"]
    assert {account, other} <= {one["account"] for one in everyone}
    shared = {"name": "shared-model", "model": "shared-model"}
    made = await api.call("POST", "/v1/services", json=shared)
    assert made.status_code == 201, made.text
    assert made.json()["access_path"] == "public/shared-model" and made.json()["billing_mode"] == "operator"
    assert made.json()["endpoint"] == "https://chat.example.com:8443/v1" and made.json()["price_per_hour"] is None


async def test_a_suspended_account_may_end_what_costs_and_start_nothing(
    api: Api, agent: ScriptedAgent, published: Published
) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    account, key = await api.customer("manage")
    await agent.says_it_lives()
    body = {"name": "test", "model": "own-model", "replicas": 3}
    assert (await api.call("POST", "/v1/services", key=key, json=body)).status_code == 201
    await placed(published, f"{account}/test", 3)
    await api.set_account(account, "suspended", 2)
    refused = (403, "account_suspended")
    assert error(await api.call("POST", "/v1/services", key=key, json=body | {"name": "more"}))[:2] == refused
    for more in ("4", "+1"):
        answer = await api.call("POST", "/v1/services/test/scale", key=key, json={"replicas": more})
        assert error(answer)[:2] == refused
    operators = await api.call("POST", f"/v1/services/test/scale?account={account}", json={"replicas": 4})
    assert error(operators)[:2] == (409, "account_not_active")
    fewer = await api.call("POST", "/v1/services/test/scale", key=key, json={"replicas": 1})
    assert (fewer.status_code, fewer.json()["replicas"]) == (200, 1)
    await placed(published, f"{account}/test", 1)
    stopped = await api.call("POST", "/v1/services/test/stop", key=key)
    assert stopped.status_code == 200 and stopped.json()["status"] in ("stopping", "stopped")
    assert error(await api.call("POST", "/v1/services/test/start", key=key))[:2] == refused
    assert (await api.call("DELETE", "/v1/services/test?confirm=test", key=key)).status_code == 200


async def test_closing_an_account_stops_its_services(api: Api, agent: ScriptedAgent, published: Published) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    account, key = await api.customer("manage")
    other, other_key = await api.customer("manage")
    await agent.says_it_lives()
    for one in (key, other_key):
        await api.call("POST", "/v1/services", key=one, json={"name": "test", "model": "own-model"})
    (name,) = await placed(published, f"{account}/test")
    await placed(published, f"{other}/test")
    await agent.says(name, "ready", ReadyPeriod(number=1, began=NOW, ready_seconds=1))
    await has_status(published, f"{account}/test", "running")
    await api.set_account(account, "closed", 2)
    await has_status(published, f"{account}/test", "stopping")
    await agent.says(name, "ended", sent=datetime.now(UTC) + timedelta(seconds=1))
    await has_status(published, f"{account}/test", "stopped")
    shown = (await api.call("GET", f"/v1/services/test?account={account}")).json()
    assert (shown["status"], shown["reason"]) == ("stopped", "the account is closed")
    start = await api.call("POST", f"/v1/services/test/start?account={account}")
    assert error(start)[:2] == (409, "account_not_active")
    assert (await api.call("GET", "/v1/services/test", key=other_key)).json()["status"] == "deploying"


async def test_one_idempotency_key_is_one_change(api: Api) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    _, key = await api.customer("manage")
    body = {"name": "test", "model": "own-model"}
    once = {"Idempotency-Key": "deploy-1"}
    first = await api.call("POST", "/v1/services", key=key, json=body, headers=once)
    second = await api.call("POST", "/v1/services", key=key, json=body, headers=once)
    assert first.status_code == second.status_code == 201 and first.json() == second.json()
    other = await api.call("POST", "/v1/services", key=key, json=body | {"name": "more"}, headers=once)
    assert error(other)[:2] == (409, "idempotency_key_reused")
    add = {"Idempotency-Key": "scale-1"}
    for _ in range(3):
        await api.call("POST", "/v1/services/test/scale", key=key, json={"replicas": "+2"}, headers=add)
    assert (await api.call("GET", "/v1/services/test", key=key)).json()["replicas"] == 3
    # A refusal is not kept: the same key may try again.
    again = {"Idempotency-Key": "delete-1"}
    refused = await api.call("DELETE", "/v1/services/test", key=key, headers=again)
    assert error(refused) == (400, "confirmation_mismatch", "confirm")
    gone = await api.call("DELETE", "/v1/services/test?confirm=test", key=key, headers={"Idempotency-Key": "delete-2"})
    assert gone.status_code == 200


async def test_deleting_needs_the_name_and_other_commands_say_why_not(api: Api) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    _, key = await api.customer("manage")
    await api.call("POST", "/v1/services", key=key, json={"name": "test", "model": "own-model"})
    for wrong in ({}, {"params": {"confirm": "tes"}}, {"json": {"confirm": "Test"}}):
        refused = await api.call("DELETE", "/v1/services/test", key=key, **wrong)
        assert error(refused) == (400, "confirmation_mismatch", "confirm")
    assert (await api.call("POST", "/v1/services/test/stop", key=key)).json()["status"] == "stopped"
    refused = await api.call("POST", "/v1/services/test/scale", key=key, json={"replicas": "2"})
    assert error(refused)[:2] == (409, "service_stopped")
    assert (await api.call("POST", "/v1/services/test/start", key=key)).json()["status"] == "deploying"
    gone = await api.call("DELETE", "/v1/services/test", key=key, json={"confirm": "test"})
    assert gone.status_code == 200
    for command in ("stop", "start"):
        assert error(await api.call("POST", f"/v1/services/nothing/{command}", key=key))[:2] == (404, "not_found")


async def test_details_carry_the_recorded_price_and_examples_that_parse(api: Api, region: str) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    account, key = await api.customer("manage")
    price = PriceRecorded(
        price_id=f"{region}/one/instance_seconds",
        version=1,
        meter="instance_seconds",
        unit_price=Decimal("12.50"),
        per=3600,
        currency="CNY",
        effective_from=NOW - timedelta(days=1),
        recorded_at=NOW - timedelta(days=1),
        source="example",
        region=region,
        spec="one",
    )
    event = codec.event(price, id="p@1", source="/hydra/billing", subject=price.price_id, time=NOW)
    await api._producer.publish(PRICES, price.price_id, codec.encode(event))
    await api.call("POST", "/v1/services", key=key, json={"name": "test", "model": "own-model"})

    async def priced() -> dict[str, object] | None:
        shown = (await api.call("GET", "/v1/services/test", key=key)).json()
        return shown if shown["price_per_hour"] else None

    shown = await eventually(priced)
    assert (shown["price_per_hour"], shown["currency"], shown["price_source"]) == ("12.50", "CNY", "example")
    offer = (await api.call("GET", "/v1/models", key=key)).json()["data"][0]["offers"][0]
    assert offer["price_per_hour"] == "12.50"
    examples = shown["examples"]
    assert isinstance(examples, dict) and set(examples) == {"curl", "python", "node"}
    words = shlex.split(examples["curl"].replace("\\\n", " "))
    assert words[1] == f"{shown['endpoint']}/chat/completions"
    assert json.loads(words[words.index("-d") + 1])["model"] == f"{account}/test"
    ast.parse(examples["python"])
    for text in examples.values():
        assert f"{account}/test" in text and str(shown["endpoint"]) in text
        assert "sk-" not in text


async def test_pages_follow_each_other_and_the_interface_is_described(api: Api) -> None:
    await eventually(lambda: api._api_keys.caught_up)
    _, key = await api.customer("manage")
    for number in range(5):
        await api.call("POST", "/v1/services", key=key, json={"name": f"test-{number}", "model": "own-model"})
    names: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.call("GET", "/v1/services", key=key, params=query)).json()
        names += [one["name"] for one in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [f"test-{number}" for number in range(5)]
    described = (await api.call("GET", "/openapi.json", key=None)).json()
    assert {"/v1/services", "/v1/services/{name}", "/v1/services/{name}/scale", "/v1/models"} <= set(described["paths"])

    async def ready() -> bool:
        return (await api.call("GET", "/health/ready", key=None)).status_code == 200

    await eventually(ready)
