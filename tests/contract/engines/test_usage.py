"""Usage, the one thing that bills are made of, in both modes, for every shape of request."""

import uuid

import pytest

from tests.contract.engines.running_engine import CHAT, COMPLETIONS, MESSAGES, RunningEngine, post, stream

LONG_PROMPT = "The quick brown fox jumps over the lazy dog and runs into the dark forest again. "


async def test_an_unstreamed_chat_reports_usage(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await post(client, CHAT, messages=MESSAGES, max_tokens=5, ignore_eos=True)
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 5
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_an_unstreamed_completion_reports_usage(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await post(client, COMPLETIONS, prompt="Once upon a time", max_tokens=7, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_reports_usage_only_when_asked(engine: RunningEngine, path: str) -> None:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once upon a time"}
    body = asked | {"max_tokens": 6, "ignore_eos": True, "temperature": 0}
    async with engine.client() as client:
        silent = await stream(client, path, **body)
        told = await stream(client, path, **body, stream_options={"include_usage": True})
        whole = await post(client, path, **body)
    assert silent.usages == []
    assert silent.done and told.done
    assert len(told.usages) == 1
    assert told.chunks[-1]["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert told.usages[0][name] == whole["usage"][name]
    assert silent.text() == told.text()


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_continuous_usage_grows_to_the_final_one(engine: RunningEngine, path: str) -> None:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once upon a time"}
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with engine.client() as client:
        read = await stream(client, path, **asked, max_tokens=8, ignore_eos=True, stream_options=options)
    counts = [usage["completion_tokens"] for usage in read.usages]
    assert counts == sorted(counts)
    assert counts[0] < 8
    assert counts[-1] == 8
    assert {usage["prompt_tokens"] for usage in read.usages} == {read.usages[-1]["prompt_tokens"]}
    assert all(chunk.get("usage") for chunk in read.chunks if any(_has_text(choice) for choice in chunk["choices"]))


def _has_text(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("text") or (isinstance(delta, dict) and delta.get("content")))


async def test_continuous_usage_alone_sends_no_chunk_without_choices(engine: RunningEngine) -> None:
    async with engine.client() as client:
        read = await stream(
            client, CHAT, messages=MESSAGES, max_tokens=4, stream_options={"continuous_usage_stats": True}
        )
    assert read.usages
    assert all(chunk["choices"] for chunk in read.chunks)


async def test_a_repeated_prompt_reports_its_cached_tokens(engine: RunningEngine) -> None:
    prompt = f"{uuid.uuid4().hex} {LONG_PROMPT * 4}"
    async with engine.client() as client:
        first = await post(client, COMPLETIONS, prompt=prompt, max_tokens=2)
        again = await post(client, COMPLETIONS, prompt=prompt, max_tokens=2)
        streamed = await stream(
            client, COMPLETIONS, prompt=prompt, max_tokens=2, stream_options={"include_usage": True}
        )
        salted = await post(client, COMPLETIONS, prompt=prompt, max_tokens=2, cache_salt=uuid.uuid4().hex)
    prompt_tokens = first["usage"]["prompt_tokens"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] < 40
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt_tokens - 1
    assert streamed.usages[0]["prompt_tokens_details"]["cached_tokens"] == prompt_tokens - 1
    assert salted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_several_prompts_are_reported_in_one_usage(engine: RunningEngine) -> None:
    prompts = ["one", "one two three four five six", "seven"]
    body = {"max_tokens": 3, "ignore_eos": True}
    async with engine.client() as client:
        single = [await post(client, COMPLETIONS, prompt=prompt, **body) for prompt in prompts]
        whole = await post(client, COMPLETIONS, prompt=prompts, rid="several", **body)
        read = await stream(
            client, COMPLETIONS, prompt=prompts, rid="several", stream_options={"include_usage": True}, **body
        )
    expected = sum(answer["usage"]["prompt_tokens"] for answer in single)
    assert whole["usage"]["prompt_tokens"] == expected
    assert whole["usage"]["completion_tokens"] == 9
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert whole["id"] == "several_0"
    assert read.usages[-1]["prompt_tokens"] == expected
    assert read.usages[-1]["completion_tokens"] == 9
    assert {chunk["id"] for chunk in read.chunks if chunk["choices"]} == {"several_0", "several_1", "several_2"}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_several_samples_count_the_prompt_once(engine: RunningEngine, path: str) -> None:
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once upon a time"}
    body = asked | {"max_tokens": 4, "ignore_eos": True}
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with engine.client() as client:
        one = await post(client, path, **body)
        three = await post(client, path, **body, n=3, rid="samples")
        read = await stream(client, path, **body, n=3, rid="samples", stream_options=options)
    prompt_tokens = one["usage"]["prompt_tokens"]
    assert three["usage"]["prompt_tokens"] == prompt_tokens
    assert three["usage"]["completion_tokens"] == 12
    assert three["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt_tokens - 1
    assert not three["id"].startswith("samples")
    assert read.usages[-1]["prompt_tokens"] == prompt_tokens
    assert read.usages[-1]["completion_tokens"] == 12
    # Continuous usage is that of one sample.
    assert max(usage["completion_tokens"] for usage in read.usages[:-1]) == 4
    assert set(read.finish_reasons) == {0, 1, 2}


async def test_several_prompts_with_several_samples(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await post(client, COMPLETIONS, prompt=["one", "two"], n=2, max_tokens=3, ignore_eos=True)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["completion_tokens"] == 12


async def test_token_ids_are_a_prompt(engine: RunningEngine) -> None:
    async with engine.client() as client:
        one = await post(client, COMPLETIONS, prompt=[11, 12, 13], max_tokens=2, ignore_eos=True)
        two = await post(client, COMPLETIONS, prompt=[[11, 12, 13], [14]], max_tokens=2, ignore_eos=True)
    assert one["usage"]["prompt_tokens"] == 3
    assert two["usage"]["prompt_tokens"] == 4


async def test_no_tokens_wanted_still_counts_the_prompt(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await post(client, CHAT, messages=MESSAGES, max_tokens=0)
        read = await stream(client, CHAT, messages=MESSAGES, max_tokens=0, stream_options={"include_usage": True})
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["prompt_tokens"] > 0
    assert read.finish_reasons == {0: "length"}
    assert read.usages[-1]["completion_tokens"] == 0
