"""Gateways, engines and Kafka die; every request still has exactly one usage event."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from tests.servers.child_process import end_with_parent
from tests.servers.gateway import GatewayPlatform
from tests.servers.kafka import new_kafka

HELLO: list[Any] = [{"role": "user", "content": "Say hello to the whole wide world, please."}]


def client_of(platform: GatewayPlatform, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{platform.url}/v1", max_retries=0)


async def test_a_killed_gateways_requests_are_adopted(platform: GatewayPlatform) -> None:
    engine = await platform.start_engine("--tokens-per-second", "20")
    customer = await platform.customer()
    service = await platform.service(engine)
    first = await platform.start_gateway()
    await platform.in_force(customer, service.access_path)
    async with client_of(platform, customer.key) as client:
        done = await client.chat.completions.create(model=service.access_path, messages=HELLO, max_tokens=3)
        stream = await client.chat.completions.create(
            model=service.access_path, messages=HELLO, max_tokens=5000, stream=True
        )
        chunk = await anext(aiter(stream))
        first.kill()
        with pytest.raises((openai.APIError, httpx.HTTPError)):
            async for _ in stream:
                pass
    await platform.start_gateway()
    completed, lost = await platform.usage(customer.account, 2)
    assert (completed.request_id, completed.outcome) == (done.id, "completed")
    assert (lost.request_id, lost.outcome, lost.prompt_tokens) == (chunk.id, "gateway_lost", None)
    assert lost.ended == lost.received and lost.instance == engine.instance
    spools = platform.home / "gateway" / "spools"
    await until(lambda: len(list(spools.iterdir())) == 1)


async def test_an_engine_that_dies_in_a_stream(platform: GatewayPlatform) -> None:
    engine = await platform.start_engine()
    customer = await platform.customer()
    service = await platform.service(engine)
    await platform.start_gateway()
    await platform.in_force(customer, service.access_path)
    engine.order(fault="break", after_chunks=3)
    async with client_of(platform, customer.key) as client:
        stream = await client.chat.completions.create(
            model=service.access_path, messages=HELLO, max_tokens=50, stream=True
        )
        with pytest.raises(openai.APIError, match="instance"):
            async for _ in stream:
                pass
        engine.order(fault="error_chunk", after_chunks=2)
        stream = await client.chat.completions.create(
            model=service.access_path, messages=HELLO, max_tokens=50, stream=True
        )
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        engine.order(fault="status", status=500)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=service.access_path, messages=HELLO)
    usages = await platform.usage(customer.account, 3)
    assert [usage.outcome for usage in usages] == ["engine_lost", "engine_refused", "engine_refused"]


async def test_another_instance_answers_for_one_that_crashes(platform: GatewayPlatform) -> None:
    engines = [await platform.start_engine() for _ in range(2)]
    customer = await platform.customer()
    service = await platform.service(*engines)
    await platform.start_gateway()
    await platform.in_force(customer, service.access_path)
    engines[0].order(fault="exit")
    async with client_of(platform, customer.key) as client:
        for _ in range(12):
            await client.chat.completions.create(model=service.access_path, messages=HELLO, max_tokens=2)
    usages = await platform.usage(customer.account, 12)
    assert {usage.outcome for usage in usages} == {"completed"}
    retried = [usage for usage in usages if usage.attempts]
    assert len(retried) == 1 and retried[0].attempts[0].instance == engines[0].instance


async def test_a_stopped_gateway_lets_streams_end(platform: GatewayPlatform) -> None:
    engine = await platform.start_engine("--tokens-per-second", "20")
    customer = await platform.customer()
    service = await platform.service(engine)
    gateway = await platform.start_gateway()
    await platform.in_force(customer, service.access_path)
    async with client_of(platform, customer.key) as client:
        stream = await client.chat.completions.create(
            model=service.access_path, messages=HELLO, max_tokens=30, stream=True
        )
        chunks = aiter(stream)
        await anext(chunks)
        ending = asyncio.create_task(asyncio.to_thread(gateway.terminate))
        assert len([chunk async for chunk in chunks]) > 5
        assert await ending == 0
    (usage,) = await platform.usage(customer.account, 1)
    assert (usage.outcome, usage.completion_tokens) == ("completed", 30)


async def test_what_a_stopped_gateway_breaks_off_is_published_and_charged_to_nobody(platform: GatewayPlatform) -> None:
    engine = await platform.start_engine("--tokens-per-second", "20")
    customer = await platform.customer()
    service = await platform.service(engine)
    gateway = await platform.start_gateway(drain_s="0.5")
    await platform.in_force(customer, service.access_path)
    async with client_of(platform, customer.key) as client:
        asked = {"model": service.access_path, "messages": HELLO, "max_tokens": 5000}
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = aiter(stream)
        first = await anext(chunks)
        unstreamed = asyncio.create_task(client.chat.completions.create(**asked))
        await until(lambda: b"hydra_gateway_in_flight 2.0" in _metrics(platform))
        ending = asyncio.create_task(asyncio.to_thread(gateway.terminate))
        with pytest.raises(openai.APIError, match="Nothing is charged"):
            async for _ in chunks:
                pass
        with pytest.raises(openai.InternalServerError) as caught:
            await unstreamed
        assert caught.value.status_code == 503 and caught.value.response.headers["retry-after"]
        assert await ending == 0
    await until(lambda: [line["finish_reasons"] for line in engine.finished()] == [["abort"], ["abort"]])
    usages = await platform.usage(customer.account, 2)
    assert {usage.outcome for usage in usages} == {"gateway_lost"}
    assert first.id in {usage.request_id for usage in usages}
    assert not list((platform.home / "gateway" / "spools").iterdir()), "nothing is left to be adopted"


@pytest_asyncio.fixture
async def mortal_kafka(tmp_path: Path) -> AsyncIterator[Any]:
    server = new_kafka(tmp_path / "kafka")
    try:
        yield server
    finally:
        server.kill()


async def test_without_kafka_it_serves_from_its_snapshot_within_a_bound(tmp_path: Path, mortal_kafka: Any) -> None:
    platform = GatewayPlatform(tmp_path / "home", mortal_kafka.node.bootstrap)
    try:
        gateway = platform.spawn_gateway()
        await until(lambda: b"starting" in _ready(platform))
        assert (await asyncio.to_thread(_ask_as_nobody, platform)) == 503, "nobody is told that a key is wrong"
        await asyncio.to_thread(mortal_kafka.start, before_exec=end_with_parent)
        await platform.prepare()
        await gateway.ready()
        engine = await platform.start_engine()
        customer = await platform.customer()
        service = await platform.service(engine)
        await platform.in_force(customer, service.access_path)
        snapshot = platform.home / "gateway" / "snapshot.json"
        await until(lambda: snapshot.exists() and customer.key_id in snapshot.read_text())
        assert customer.key not in snapshot.read_text()
        await asyncio.to_thread(mortal_kafka.kill)
        async with client_of(platform, customer.key) as client:

            async def ask() -> Any:
                return await client.chat.completions.create(model=service.access_path, messages=HELLO, max_tokens=2)

            await ask()  # it goes on
            await asyncio.to_thread(gateway.terminate)
            await platform.start_gateway()  # and starts again
            await ask()
            assert b"degraded" in await asyncio.to_thread(_ready, platform)
            assert platform.gateway is not None
            await asyncio.to_thread(platform.gateway.terminate)
            process = platform.spawn_gateway(state_age_max_s="0.001")
            await until(lambda: b"stale" in _ready(platform))
            with pytest.raises(openai.InternalServerError) as caught:
                await ask()
            assert caught.value.code == "state_too_old"
            await asyncio.to_thread(process.terminate)
        await asyncio.to_thread(mortal_kafka.start, before_exec=end_with_parent)
        await platform.start_gateway()
        usages = await platform.usage(customer.account, 3)
        assert [usage.outcome for usage in usages] == ["completed", "completed", "refused"]
    finally:
        await platform.close()


async def until(condition: Callable[[], bool], within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.1)


def _ask_as_nobody(platform: GatewayPlatform) -> int:
    request = urllib.request.Request(f"{platform.url}/v1/models", headers={"authorization": "Bearer sk-x"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _metrics(platform: GatewayPlatform) -> bytes:
    with urllib.request.urlopen(f"{platform.url}/metrics", timeout=30) as answer:
        return bytes(answer.read())


def _ready(platform: GatewayPlatform) -> bytes:
    try:
        with urllib.request.urlopen(f"{platform.url}/health/ready", timeout=5) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()
    except OSError:
        return b""
