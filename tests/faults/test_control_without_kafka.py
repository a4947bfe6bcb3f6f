"""Kafka dies under the control services: they go on answering, say so, and publish everything once it is back."""

import asyncio
from pathlib import Path

import httpx

from adapters.kafka.topics import create_topics
from schemas import codec
from schemas.accounts import ApiKeyState
from schemas.topics import API_KEYS
from tests.servers.child_process import end_with_parent
from tests.servers.control_process import running_control
from tests.servers.kafka import running_kafka
from tests.servers.topic_reading import records_of

DEADLINE_S = 120


async def _readiness(operator: httpx.AsyncClient, status: int) -> str:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await operator.get("/health/ready")
            if answer.status_code == status:
                return str(answer.json()["reason"])
            await asyncio.sleep(0.1)


def _told(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error", {}).get("code")


async def test_accounts_keeps_what_kafka_cannot_take_and_publishes_it_later(tmp_path: Path) -> None:
    with running_kafka(tmp_path / "kafka") as kafka:
        bootstrap = kafka.node.bootstrap
        await create_topics(bootstrap)
        with running_control("accounts", tmp_path / "home", bootstrap) as accounts:
            async with httpx.AsyncClient(base_url=accounts.url, headers=accounts.operator, timeout=60) as operator:
                account = (await operator.post("/v1/accounts", json={"name": "a"})).json()["id"]
                keys = f"/v1/accounts/{account}/keys"
                key = (await operator.post(keys, json={"scopes": ["manage"]})).json()
                await _readiness(operator, 200)
                as_customer = {"Authorization": f"Bearer {key['key']}"}
                async with asyncio.timeout(DEADLINE_S):
                    while (await operator.get("/v1/accounts/me", headers=as_customer)).status_code != 200:
                        await asyncio.sleep(0.1)
                own, once = f"{keys}/{key['id']}", as_customer | {"Idempotency-Key": "once"}
                assert (await operator.patch(own, json={"name": "b"}, headers=once)).status_code == 200
                kafka.kill()
                # What is known from Kafka is not enough for a change: a key could undo what was just done to it.
                for status, told in (("suspended", (403, "account_suspended")), ("active", (200, None))):
                    assert (await operator.patch(f"/v1/accounts/{account}", json={"status": status})).status_code == 200
                    assert _told(await operator.patch(own, json={"name": "b"}, headers=as_customer)) == told
                disabled = await operator.patch(own, json={"status": "disabled"})
                assert (disabled.status_code, disabled.json()["status"]) == (200, "disabled")
                for refused in (
                    await operator.patch(own, json={"status": "active"}, headers=as_customer),
                    await operator.patch(own, json={"name": "b"}, headers=once),
                    await operator.post(keys, json={}, headers=as_customer),
                    await operator.delete(own, headers=as_customer),
                ):
                    assert _told(refused) == (401, "disabled_api_key")
                assert [row["status"] for row in (await operator.get(keys)).json()["data"]] == ["disabled"]
                assert "changes wait in the outbox" in await _readiness(operator, 503)
                # For reading, keys are known from Kafka alone: what was known last stays so.
                assert (await operator.get("/v1/accounts/me", headers=as_customer)).status_code == 200
                kafka.start(before_exec=end_with_parent)
                assert await _readiness(operator, 200) == ""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = [record.value for record in await records_of(bootstrap, API_KEYS)]
                states = [codec.decode(value, ApiKeyState).data for value in found if value]
                if states and states[-1].status == "disabled":
                    break
                await asyncio.sleep(0.2)
        assert {state.key_id for state in states} == {key["id"]}
        # A broker that dies may have kept a batch whose sender then sends it again; the newest is last all the same.
        assert states[-1].version == max(state.version for state in states)
