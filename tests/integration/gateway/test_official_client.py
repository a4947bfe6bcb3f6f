"""The official client against a gateway process: what it is told, and what it raises."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.servers.gateway import Customer, GatewayPlatform

pytestmark = pytest.mark.asyncio(loop_scope="session")
HELLO: list[Any] = [{"role": "user", "content": "Say hello to the whole wide world, please."}]


def client_of(
    running: GatewayPlatform, key: str, prefix: str = "/v1", http_client: httpx.AsyncClient | None = None
) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{running.url}{prefix}", max_retries=0, http_client=http_client)


async def test_errors_have_the_class_that_the_client_names_for_them(running: GatewayPlatform) -> None:
    engine = await running.start_engine()
    customer = await running.customer()
    other = await running.customer()
    shared = await running.service(engine)
    theirs = await running.service(engine, account=other.account)
    deploying = await running.service(status="deploying", instances_wanted=1)
    billing_only = await running.customer(scopes=("billing",))
    poor = await running.customer(limit=Decimal("2"))
    await running.balance(poor.account, Decimal("2"))
    await running.in_force(customer, shared.access_path)
    path = shared.access_path
    expected: list[tuple[str, str, type[openai.APIStatusError], str, dict[str, Any]]] = [
        ("sk-" + "0" * 43, path, openai.AuthenticationError, "invalid_api_key", {}),
        (billing_only.key, path, openai.PermissionDeniedError, "missing_scope", {}),
        (customer.key, "public/none", openai.NotFoundError, "model_not_found", {}),
        (customer.key, theirs.access_path, openai.NotFoundError, "model_not_found", {}),
        (customer.key, deploying.access_path, openai.InternalServerError, "service_deploying", {}),
        (customer.key, path, openai.BadRequestError, "invalid_field", {"temperature": -1}),
        (customer.key, path, openai.BadRequestError, "invalid_field", {"extra_body": {"lora_path": "x"}}),
        (poor.key, path, openai.APIStatusError, "insufficient_quota", {}),
    ]
    for key, model, error_class, code, fields in expected:
        async with client_of(running, key) as client:
            with pytest.raises(error_class) as caught:
                await client.chat.completions.create(model=model, messages=HELLO, **fields)
            assert caught.value.code == code and type(caught.value) is error_class
    recorded = await running.usage(customer.account, 5)
    assert {usage.outcome for usage in recorded} == {"refused"}


async def test_keys_services_and_limits_come_into_force_while_it_runs(running: GatewayPlatform) -> None:
    engine = await running.start_engine()
    customer = await running.customer()
    service = await running.service(engine)
    await running.in_force(customer, service.access_path)
    async with client_of(running, customer.key) as client:

        async def until_raised(code: str) -> None:
            async with asyncio.timeout(90):
                while True:
                    try:
                        await client.completions.create(model=service.access_path, prompt="x", max_tokens=1)
                    except openai.APIStatusError as error:
                        if error.code == code:
                            return
                    await asyncio.sleep(0.05)

        await running.customer(key=customer, limit=Decimal(5))
        await running.balance(customer.account, Decimal(6))
        await until_raised("insufficient_quota")
        await running.customer(key=customer, limit=Decimal(7))
        await running.in_force(customer, service.access_path)
        await running.service(path=service.access_path, service_id=service.service_id, status="stopped")
        await until_raised("service_stopped")
        await running.customer(key=customer, status="disabled")
        await until_raised("revoked_api_key")


async def test_every_kind_of_request_is_metered_as_the_engine_counted(running: GatewayPlatform) -> None:
    engine = await running.start_engine("--enable-cache-report")
    customer = await running.customer()
    service = await running.service(engine, account=customer.account)
    path = service.access_path
    await running.in_force(customer, path)
    async with client_of(running, customer.key) as client, client_of(running, customer.key, "") as bare:
        assert [model.id async for model in bare.models.list()].count(path) == 1
        assert (await client.models.retrieve(path)).id == path
        kinds: list[dict[str, Any]] = [{}, {"n": 2}, {"n": 3, "temperature": 0.5}]
        ids = set()
        for fields in kinds:
            chat = await client.chat.completions.create(model=path, messages=HELLO, max_tokens=9, **fields)
            ids.add(chat.id)
            stream = await bare.chat.completions.create(
                model=path, messages=HELLO, max_tokens=9, stream=True, stream_options={"include_usage": True}, **fields
            )
            chunks = [chunk async for chunk in stream]
            assert {chunk.model for chunk in chunks} == {path} and len({chunk.id for chunk in chunks}) == 1
            assert chunks[-1].usage == chat.usage.model_copy(
                update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
            )
            assert all(chunk.usage is None for chunk in chunks[:-1])
            ids.add(chunks[0].id)
            for prompt in ("one two three", ["one two", "three"]):
                completion = await client.completions.create(model=path, prompt=prompt, max_tokens=4, **fields)
                ids.add(completion.id)
                texts = await bare.completions.create(model=path, prompt=prompt, max_tokens=4, stream=True, **fields)
                parts = [part async for part in texts]
                assert len({part.id for part in parts}) == 1 and all(part.usage is None for part in parts)
                ids.add(parts[0].id)
        usages = await running.usage(customer.account, 18)
    assert {usage.request_id for usage in usages} == ids and len(ids) == 18
    assert {(usage.outcome, usage.billing) for usage in usages} == {("completed", "time")}
    counted = engine.finished()
    for field in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert sum(getattr(usage, field) or 0 for usage in usages) == sum(line[field] for line in counted), field


def telling_when_sent(sent: asyncio.Event) -> httpx.AsyncClient:
    """An HTTP client that sets `sent` once a whole request has left it."""

    async def trace(name: str, _: dict[str, Any]) -> None:
        if name == "http11.send_request_body.complete":
            sent.set()

    async def follow(request: httpx.Request) -> None:
        request.extensions["trace"] = trace

    return httpx.AsyncClient(event_hooks={"request": [follow]})


async def leave(running: GatewayPlatform, customer: Customer, **fields: Any) -> None:
    """Begin a request and go away: from a stream after its first chunk, else a moment after it was sent."""
    sent = asyncio.Event()
    async with client_of(running, customer.key, http_client=telling_when_sent(sent)) as client:
        known: dict[str, Any] = {"max_tokens": 5000, "extra_body": {"ignore_eos": True}}
        if "prompt" not in fields:
            known["messages"] = HELLO
        create: Any = client.completions.create if "prompt" in fields else client.chat.completions.create
        if fields.get("stream"):
            stream = await create(**known, **fields)
            await anext(aiter(stream))
            await stream.close()
        else:
            asking = asyncio.create_task(create(**known, **fields))
            await sent.wait()
            done, _ = await asyncio.wait([asking], timeout=3.0)
            assert not done
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def test_a_client_that_goes_away_pays_what_the_engine_counted_until_then(running: GatewayPlatform) -> None:
    engine = await running.start_engine("--tokens-per-second", "50")
    customer = await running.customer()
    service = await running.service(engine)
    path = service.access_path
    await running.in_force(customer, path)
    await leave(running, customer, model=path, stream=True)
    await leave(running, customer, model=path)
    await leave(running, customer, model=path, prompt=["one two three", "four five"])
    usages = await running.usage(customer.account, 3)
    assert [usage.outcome for usage in usages] == ["client_gone"] * 3
    counted = {line["rid"]: line for line in engine.finished()}
    for usage in usages:
        line = counted[usage.request_id]
        assert (usage.prompt_tokens, usage.completion_tokens) == (line["prompt_tokens"], line["completion_tokens"])
        assert 0 < line["completion_tokens"] < 5000
    await leave(running, customer, model=path, n=2)
    await leave(running, customer, model=path, n=2, stream=True)
    unstreamed, streamed = (await running.usage(customer.account, 5))[3:]
    assert unstreamed.outcome == "client_gone_unreported" and streamed.outcome == "client_gone"
    assert streamed.prompt_tokens == usages[0].prompt_tokens and streamed.completion_tokens


async def test_a_crowd_of_mixed_requests_agrees_with_the_engines_to_the_token(running: GatewayPlatform) -> None:
    engines = [await running.start_engine("--tokens-per-second", "200", "--enable-cache-report") for _ in range(2)]
    customer = await running.customer()
    service = await running.service(*engines)
    path = service.access_path
    await running.in_force(customer, path)
    draw = random.Random(7)
    at_once = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        kind = draw.choice(("whole", "stream", "leave", "leave stream", "several", "refused"))
        text = [{"role": "user", "content": f"tell me of {number} things"}]
        async with at_once, client_of(running, customer.key) as client:
            create: Any = client.chat.completions.create
            if kind == "whole":
                await create(model=path, messages=text, max_tokens=5)
            elif kind == "stream":
                async for _ in await create(model=path, messages=text, max_tokens=5, stream=True):
                    pass
            elif kind == "several":
                await client.completions.create(model=path, prompt=["a", f"b {number}"], max_tokens=3, n=2)
            elif kind == "refused":
                with pytest.raises(openai.BadRequestError):
                    await create(model=path, messages=text, temperature=-1)
            else:
                await leave(running, customer, model=path, stream=kind == "leave stream")

    await asyncio.gather(*(one(number) for number in range(150)))
    usages = await running.usage(customer.account, 150)
    counted = {line["rid"]: line for engine in engines for line in engine.finished()}
    billed = [usage for usage in usages if usage.outcome in ("completed", "client_gone")]
    assert len(billed) == len(counted) and {usage.outcome for usage in usages} == {
        "completed",
        "client_gone",
        "refused",
    }
    for usage in billed:
        line = counted[usage.request_id]
        for field in ("prompt_tokens", "cached_tokens", "completion_tokens"):
            assert getattr(usage, field) == line[field], (usage, line)
