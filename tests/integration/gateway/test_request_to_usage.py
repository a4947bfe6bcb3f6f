"""From a customer's request to its usage event on Kafka."""

import json

import openai
import pytest

from tests.servers.gateway import GatewayPlatform

pytestmark = pytest.mark.asyncio(loop_scope="session")
HELLO = [{"role": "user", "content": "Say hello to the whole wide world, please."}]


async def test_whole_answers_and_streams_are_metered_as_the_engine_counted_them(running: GatewayPlatform) -> None:
    engine = await running.start_engine("--enable-cache-report")
    customer = await running.customer()
    service = await running.service(engine)
    await running.in_force(customer, service.access_path)
    async with openai.AsyncOpenAI(api_key=customer.key, base_url=f"{running.url}/v1", max_retries=0) as client:
        whole = await client.chat.completions.create(model=service.access_path, messages=HELLO, max_tokens=20)
        assert whole.id.startswith("cmp-") and whole.model == service.access_path and whole.usage
        stream = await client.chat.completions.create(
            model=service.access_path, messages=HELLO, max_tokens=20, stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert all(chunk.usage is None and chunk.choices for chunk in chunks)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text
    first, second = await running.usage(customer.account, 2)
    assert first.request_id == whole.id and second.request_id == chunks[0].id
    assert (first.prompt_tokens, first.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert (first.outcome, first.streamed, first.billing) == ("completed", False, "token")
    assert (second.outcome, second.streamed, second.completion_tokens) == ("completed", True, 20)
    assert second.instance == engine.instance and second.first_token is not None


async def test_logs_are_json_lines_and_hold_no_secret(running: GatewayPlatform) -> None:
    engine = await running.start_engine()
    customer = await running.customer()
    service = await running.service(engine)
    await running.in_force(customer, service.access_path)
    async with openai.AsyncOpenAI(api_key=customer.key, base_url=running.url, max_retries=0) as client:
        engine.order(fault="break")
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=service.access_path, messages=HELLO)
    assert running.gateway is not None
    lines = [json.loads(line) for line in running.gateway.log.read_text().splitlines()]
    assert {line["process"] for line in lines} == {"gateway"}
    everything = running.gateway.log.read_bytes() + b"".join(
        path.read_bytes() for path in running.home.glob("gateway/**/*") if path.is_file()
    )
    for secret in (customer.key, running.secret, engine.key, HELLO[0]["content"]):
        assert secret.encode() not in everything
