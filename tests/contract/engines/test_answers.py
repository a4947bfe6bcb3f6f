"""What an answer looks like and what it depends on."""

import asyncio

import pytest

from tests.contract.engines.running_engine import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    SERVED_NAME,
    RunningEngine,
    counter,
    post,
    stream,
    until_running,
)


@pytest.mark.parametrize("model", ["public/deepseek-r1", "u-8105f7322477/test", "nothing-like-it"])
async def test_any_model_name_is_accepted_and_echoed(engine: RunningEngine, model: str) -> None:
    async with engine.client() as client:
        answer = await post(client, CHAT, messages=MESSAGES, max_tokens=1, model=model)
        read = await stream(client, COMPLETIONS, prompt="a", max_tokens=1, model=model)
    assert answer["model"] == model
    assert {chunk["model"] for chunk in read.chunks} == {model}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_our_request_id_becomes_the_answers_id(engine: RunningEngine, path: str) -> None:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "a"}
    async with engine.client() as client:
        answer = await post(client, path, **asked, max_tokens=1, rid="cmp-1")
        read = await stream(client, path, **asked, max_tokens=2, rid="cmp-1")
    assert answer["id"] == "cmp-1"
    assert {chunk["id"] for chunk in read.chunks} == {"cmp-1"}


async def test_the_last_of_two_equal_json_keys_wins(engine: RunningEngine) -> None:
    body = b'{"model":"m","prompt":"a","rid":"theirs","max_tokens":9,"max_tokens":2,"rid":"ours","ignore_eos":true}'
    async with engine.client() as client:
        answer = await client.post(COMPLETIONS, content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["id"] == "ours"
    assert answer.json()["usage"]["completion_tokens"] == 2


async def test_two_running_requests_cannot_share_an_id(engine: RunningEngine) -> None:
    async with engine.client() as client:
        first = asyncio.create_task(post(client, COMPLETIONS, prompt="a", max_tokens=6000, ignore_eos=True, rid="twin"))
        await until_running(client, 1)
        second = await client.post(COMPLETIONS, json={"model": "m", "prompt": "a", "rid": "twin"})
        streamed = await client.post(COMPLETIONS, json={"model": "m", "prompt": "a", "rid": "twin", "stream": True})
        await client.post("/abort_request", json={"rid": "twin"})
        await first
        later = await post(client, COMPLETIONS, prompt="a", max_tokens=1, rid="twin")
    assert second.status_code == 400
    assert streamed.status_code == 400
    assert later["id"] == "twin"


async def test_temperature_zero_repeats_itself(engine: RunningEngine) -> None:
    async with engine.client() as client:
        body = {"messages": MESSAGES, "max_tokens": 12, "temperature": 0}
        first, again = await post(client, CHAT, **body), await post(client, CHAT, **body)
        other = await post(client, CHAT, messages=[{"role": "user", "content": "Else"}], max_tokens=12, temperature=0)
    assert first["choices"] == again["choices"]
    assert first["choices"][0]["message"]["content"] != other["choices"][0]["message"]["content"]


async def test_a_stop_string_ends_the_answer_before_itself(engine: RunningEngine) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    async with engine.client() as client:
        whole = await post(client, COMPLETIONS, **body)
        text = whole["choices"][0]["text"]
        stop = text[20:24]
        stopped = await post(client, COMPLETIONS, **body, stop=stop)
        read = await stream(client, COMPLETIONS, **body, stop=[stop])
    assert stopped["choices"][0]["text"] == text[: text.index(stop)]
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert stopped["choices"][0]["matched_stop"] == stop
    assert stopped["usage"]["completion_tokens"] < 40
    assert read.finish_reasons == {0: "stop"}


async def test_log_probabilities(engine: RunningEngine) -> None:
    async with engine.client() as client:
        chat = await post(client, CHAT, messages=MESSAGES, max_tokens=2, ignore_eos=True, logprobs=True, top_logprobs=1)
        text = await post(client, COMPLETIONS, prompt="a", max_tokens=2, ignore_eos=True, logprobs=1)
    content = chat["choices"][0]["logprobs"]["content"]
    assert len(content) == 2
    assert set(content[0]) == {"token", "bytes", "logprob", "top_logprobs"}
    assert set(text["choices"][0]["logprobs"]) == {"text_offset", "token_logprobs", "tokens", "top_logprobs"}


async def test_an_echo_begins_with_the_prompt(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await post(client, COMPLETIONS, prompt="Once upon", max_tokens=2, echo=True)
        read = await stream(client, COMPLETIONS, prompt="Once upon", max_tokens=2, echo=True)
    assert answer["choices"][0]["text"].startswith("Once upon")
    assert read.text().startswith("Once upon")


async def test_tools_are_accepted(engine: RunningEngine) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    async with engine.client() as client:
        answer = await post(client, CHAT, messages=MESSAGES, tools=[tool], tool_choice="auto", max_tokens=2)
    assert answer["choices"][0]["message"]["role"] == "assistant"


async def test_the_key_guards_what_costs(engine: RunningEngine) -> None:
    async with engine.client(key=None) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        for path in ("/v1/models", "/get_model_info", "/v1/loads"):
            assert (await client.get(path)).status_code == 401
        refused = await client.post(CHAT, json={"model": "m", "messages": MESSAGES})
        assert (await client.post("/abort_request", json={"rid": "x"})).status_code == 401
    async with engine.client(key="wrong") as client:
        assert (await client.post(CHAT, json={"model": "m", "messages": MESSAGES})).status_code == 401
    assert refused.status_code == 401
    assert refused.json() == {"error": "Unauthorized"}


async def test_what_an_engine_tells_of_itself(engine: RunningEngine) -> None:
    async with engine.client() as client:
        models = (await client.get("/v1/models")).json()
        assert [card["id"] for card in models["data"]] == [SERVED_NAME]
        assert models["data"][0]["max_model_len"] == 8192
        assert (await client.get(f"/v1/models/{SERVED_NAME}")).json()["id"] == SERVED_NAME
        assert (await client.get("/v1/models/else")).status_code == 404
        info = (await client.get("/get_model_info")).json()
        assert info["served_model_name"] == SERVED_NAME
        assert info["is_generation"] is True
        # Only the simulated engine says that it is one.
        assert bool(info.get("simulated")) == (engine.kind == "simulated")
        assert (await client.get("/health_generate")).status_code == 200
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get(CHAT)).status_code == 405


async def test_the_counters_agree_with_usage(engine: RunningEngine) -> None:
    names = ("prompt_tokens_total", "generation_tokens_total", "cached_tokens_total", "num_requests_total")
    body = {"max_tokens": 3, "ignore_eos": True}
    async with engine.client() as client:
        await until_running(client, 0)
        before = {name: await counter(client, name) for name in names}
        answers = [await post(client, CHAT, messages=MESSAGES, **body) for _ in range(2)]
        answers.append(await post(client, COMPLETIONS, prompt=["one two", "three four five"], **body))
        read = await stream(client, CHAT, messages=MESSAGES, stream_options={"include_usage": True}, **body)
        grown = {name: await counter(client, name) - before[name] for name in names}
    usages = [answer["usage"] for answer in answers] + read.usages
    assert grown["prompt_tokens_total"] == sum(usage["prompt_tokens"] for usage in usages)
    assert grown["generation_tokens_total"] == sum(usage["completion_tokens"] for usage in usages)
    assert grown["cached_tokens_total"] == sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert grown["num_requests_total"] == 5


async def test_the_counters_count_a_prompt_with_samples_once_more_than_samples(engine: RunningEngine) -> None:
    # The prompt is computed once ahead of its samples, as a request of its own, so here they exceed usage.
    async with engine.client() as client:
        await until_running(client, 0)
        before = await counter(client, "prompt_tokens_total"), await counter(client, "num_requests_total")
        answer = await post(client, CHAT, messages=MESSAGES, max_tokens=3, n=2)
        after = await counter(client, "prompt_tokens_total"), await counter(client, "num_requests_total")
    assert after[0] - before[0] == 3 * answer["usage"]["prompt_tokens"]
    assert after[1] - before[1] == 3
