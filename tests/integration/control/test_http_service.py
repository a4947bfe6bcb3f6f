"""The shared app over real HTTP: its errors, bounds, health and serving, with one small service as its guest."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field

from adapters.api_keys import ApiKeys
from adapters.errors import Misconfigured, Unavailable
from adapters.http_callers import Caller, Operator
from adapters.http_errors import ApiError
from adapters.http_service import create_app, serve_app

TOKEN = "op-token-of-this-test"


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=2)]


def guest(reasons: list[Callable[[], str]] | None = None) -> FastAPI:
    keys = ApiKeys("127.0.0.1:1", TOKEN)
    app = create_app(
        title="Guest",
        description="",
        api_keys=keys,
        reasons=reasons or [],
        body_bytes_max=1_000,
        registry=CollectorRegistry(),
    )

    @app.post("/things")
    async def make(thing: Thing, caller: Caller) -> dict[str, str]:
        if thing.name == "taken":
            raise ApiError(409, "taken", "The name is taken.", field="name", what_to_do="Choose another.")
        if thing.name == "away":
            raise Unavailable("sensitive: the database at 10.0.0.7")
        if thing.name == "broken":
            raise RuntimeError("sensitive")
        return {"name": thing.name, "account": caller.account}

    @app.get("/operator")
    async def operator(caller: Operator, limit: Annotated[int, Query(ge=1)] = 1) -> dict[str, bool]:
        return {"operator": caller.operator}

    @app.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(1)
        return {"slow": "but complete"}

    return app


@asynccontextmanager
async def served(app: FastAPI, port: int) -> AsyncIterator[httpx.AsyncClient]:
    task = asyncio.create_task(serve_app(app, host="127.0.0.1", port=port, port_setting="HYDRA_GUEST_PORT"))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        async with asyncio.timeout(90):
            while True:
                try:
                    await client.get("/health/live")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.02)
        yield client
    os.kill(os.getpid(), signal.SIGTERM)
    await task


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ('{"name": "taken"}', 409, "taken", "name"),
        ('{"name": "away"}', 503, "unavailable", None),
        ('{"name": "broken"}', 500, "internal_error", None),
        ('{"name": "x"}', 400, "invalid_request", "name"),
        ('{"name": 7}', 400, "invalid_request", "name"),
        ('{"name": "good", "more": 1}', 400, "invalid_request", "more"),
        ("{nonsense", 400, "invalid_json", None),
        (json.dumps({"name": "x" * 1_000}), 413, "body_too_large", None),
    ],
)
async def test_every_error_has_one_shape(
    unused_port: Callable[[], int], body: str, status: int, code: str, field: str | None
) -> None:
    async with served(guest(), unused_port()) as client:
        answer = await client.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error.get("field")) == (code, field)
    assert error["message"].endswith(".")
    assert "sensitive" not in answer.text
    assert answer.headers["x-request-id"].startswith("req-")
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_chunked_body_is_bounded_too(unused_port: Callable[[], int]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with served(guest(), unused_port()) as client:
        answer = await client.post("/things", content=chunks(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (None, 401, "missing_api_key"),
        ("Basic abc", 401, "missing_api_key"),
        ("Bearer nonsense", 401, "invalid_api_key"),
        # Nothing is known of customers' keys yet: not a refusal, which might be wrong.
        ("Bearer sk-" + "a" * 43, 503, "unavailable"),
        (f"bearer {TOKEN}", 200, None),
    ],
)
async def test_who_may_call(
    unused_port: Callable[[], int], authorization: str | None, status: int, code: str | None
) -> None:
    async with served(guest(), unused_port()) as client:
        client.headers.pop("Authorization")
        headers = {"Authorization": authorization} if authorization else {}
        answer = await client.get("/operator", headers=headers)
    assert answer.status_code == status
    assert answer.json().get("error", {}).get("code") == code


async def test_unknown_routes_methods_and_parameters_have_the_same_shape(unused_port: Callable[[], int]) -> None:
    async with served(guest(), unused_port()) as client:
        found = [await client.get("/nowhere"), await client.put("/things"), await client.get("/operator?limit=0")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in found] == [
        (404, "not_found"),
        (405, "method_not_allowed"),
        (400, "invalid_request"),
    ]


async def test_readiness_tells_its_reason(unused_port: Callable[[], int]) -> None:
    app = guest([lambda: "", lambda: "the moon is not full"])
    async with served(app, unused_port()) as client:
        early = await client.get("/health/ready")
        app.state.api_keys.accounts.caught_up.set()
        app.state.api_keys._keys.caught_up.set()
        late = await client.get("/health/ready")
        metrics = await client.get("/metrics")
    assert (early.status_code, early.json()["reason"]) == (503, "API keys are still being read from Kafka")
    assert late.json() == {"status": "not_ready", "reason": "the moon is not full"}
    assert 'hydra_http_requests_total{method="GET",status="503"}' in metrics.text


async def test_a_stop_lets_running_requests_finish(unused_port: Callable[[], int]) -> None:
    async with served(guest(), unused_port()) as client:
        running = asyncio.create_task(client.get("/slow"))
        await asyncio.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await running).json() == {"slow": "but complete"}


async def test_a_taken_port_names_its_setting(unused_port: Callable[[], int]) -> None:
    port = unused_port()
    async with served(guest(), port):
        with pytest.raises(Misconfigured, match=rf"{port} is taken; HYDRA_GUEST_PORT moves it"):
            await serve_app(guest(), host="127.0.0.1", port=port, port_setting="HYDRA_GUEST_PORT")


async def test_a_background_task_that_fails_ends_the_process_with_its_error(unused_port: Callable[[], int]) -> None:
    async def fails() -> None:
        raise Misconfigured("the task's own reason")

    with pytest.raises(Misconfigured, match="own reason"):
        await serve_app(
            guest(), host="127.0.0.1", port=unused_port(), port_setting="HYDRA_GUEST_PORT", background=[fails()]
        )
