"""Requests that end before their time: aborted by id, or left by their client. The tokens until then are true."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.contract.engines.running_engine import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RunningEngine,
    counter,
    decoded_line,
    grown_counter,
    post,
    until_running,
)

# More than any of these tests lets an engine generate.
MANY = 7000


def _long(path: str) -> dict[str, Any]:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once upon a time"}
    return asked | {"max_tokens": MANY, "ignore_eos": True, "temperature": 0}


async def _abort(client: httpx.AsyncClient, rid: str) -> None:
    answer = await client.post("/abort_request", json={"rid": rid})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_an_abort_ends_an_unstreamed_answer_with_what_it_has(engine: RunningEngine, path: str) -> None:
    async with engine.client() as client:
        await until_running(client, 0)
        request = asyncio.create_task(post(client, path, **_long(path), rid="cmp-abort"))
        await until_running(client, 1)
        await _abort(client, "cmp-abort")
        answer = await request
        short = await post(client, path, **_long(path) | {"max_tokens": 1})
    assert answer["choices"][0]["finish_reason"] == "abort"
    assert answer["usage"]["prompt_tokens"] == short["usage"]["prompt_tokens"]
    assert 0 < answer["usage"]["completion_tokens"] < MANY
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_an_abort_ends_a_stream_with_its_usage(engine: RunningEngine, path: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "m", "stream": True, "rid": "cmp-abort", "stream_options": options, **_long(path)}
    usages: list[dict[str, int]] = []
    reasons: list[str] = []
    done = False
    async with engine.client() as client:
        async with client.stream("POST", path, json=body) as answer:
            async for line in answer.aiter_lines():
                done = done or line == "data: [DONE]"
                chunk = decoded_line(line)
                if chunk is None:
                    continue
                if chunk.get("usage"):
                    usages.append(chunk["usage"])
                    if len(usages) == 10:
                        await _abort(client, "cmp-abort")
                reasons += [choice["finish_reason"] for choice in chunk["choices"] if choice["finish_reason"]]
        await until_running(client, 0)
    assert reasons == ["abort"]
    assert done
    assert usages[9]["completion_tokens"] <= usages[-1]["completion_tokens"] < MANY
    assert usages[-1]["prompt_tokens"] == usages[0]["prompt_tokens"]


async def test_an_abort_finds_each_of_several_prompts_by_its_own_id(engine: RunningEngine) -> None:
    body = {"prompt": ["one", "two"], "max_tokens": 600, "ignore_eos": True, "rid": "cmp-list"}
    async with engine.client() as client:
        await until_running(client, 0)
        request = asyncio.create_task(post(client, COMPLETIONS, **body))
        await until_running(client, 2)
        await _abort(client, "cmp-list")
        await _abort(client, "cmp-list_0")
        answer = await request
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["abort", "length"]
    assert 600 < answer["usage"]["completion_tokens"] < 1200


async def test_an_abort_of_an_unknown_id_is_nothing(engine: RunningEngine) -> None:
    async with engine.client() as client:
        await _abort(client, "cmp-of-nobody")


async def test_an_abort_does_not_find_samples_by_our_id(engine: RunningEngine) -> None:
    async with engine.client() as client:
        await until_running(client, 0)
        request = asyncio.create_task(
            post(client, COMPLETIONS, prompt="a", n=2, max_tokens=300, ignore_eos=True, rid="cmp-samples")
        )
        await until_running(client, 2)
        for rid in ("cmp-samples", "cmp-samples_0"):
            await _abort(client, rid)
        answer = await request
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length", "length"]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_client_that_leaves_a_stream_frees_the_engine(engine: RunningEngine, n: int) -> None:
    body = {"model": "m", "stream": True, "n": n, **_long(COMPLETIONS)}
    async with engine.client() as client:
        await until_running(client, 0)
        before = await counter(client, "generation_tokens_total")
        async with client.stream("POST", COMPLETIONS, json=body) as answer:
            chunks = 0
            async for line in answer.aiter_lines():
                chunks += line.startswith("data: ")
                if chunks == 10:
                    break
        await until_running(client, 0)
        grown = await grown_counter(client, "generation_tokens_total", before)
    assert 0 < grown < n * MANY / 2


async def test_a_client_that_leaves_an_unstreamed_answer_frees_the_engine(engine: RunningEngine) -> None:
    body = json.dumps({"model": "m", **_long(CHAT)})
    async with engine.client() as client:
        await until_running(client, 0)
        before = await counter(client, "generation_tokens_total")
        async with engine.client() as leaving:
            headers = {"Content-Type": "application/json"}
            request = asyncio.create_task(leaving.post(CHAT, content=body, headers=headers))
            await until_running(client, 1)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        await until_running(client, 0)
        grown = await grown_counter(client, "generation_tokens_total", before)
    assert 0 < grown < MANY
