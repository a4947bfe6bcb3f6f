"""Bad requests: the same status from both engines, and a flat body that says why."""

import json
from typing import Any

import pytest

from tests.contract.engines.running_engine import CHAT, COMPLETIONS, MESSAGES, RunningEngine

CHAT_BODY: dict[str, Any] = {"model": "m", "messages": MESSAGES, "max_tokens": 1}
COMPLETION_BODY: dict[str, Any] = {"model": "m", "prompt": "a", "max_tokens": 1}
TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}

ON_BOTH: list[tuple[dict[str, Any], int]] = [
    ({"temperature": -1}, 400),
    ({"temperature": "hot"}, 400),
    ({"temperature": "0.5"}, 200),
    ({"top_p": 0}, 400),
    ({"top_p": 1.5}, 400),
    ({"top_k": 0}, 400),
    ({"top_k": -1}, 200),
    ({"top_k": -2}, 400),
    ({"min_p": 2}, 400),
    ({"frequency_penalty": 3}, 400),
    ({"presence_penalty": -3}, 400),
    ({"repetition_penalty": 0}, 400),
    ({"max_tokens": -1}, 400),
    ({"max_tokens": "5"}, 200),
    ({"max_tokens": "many"}, 400),
    ({"max_tokens": 1.5}, 400),
    ({"max_tokens": 8192}, 400),
    ({"max_tokens": 100_000}, 400),
    ({"min_tokens": -1}, 400),
    ({"min_tokens": 5}, 400),
    ({"n": 0}, 400),
    ({"n": 1.5}, 400),
    ({"n": None}, 400),
    ({"n": "2"}, 200),
    ({"stream": "yes"}, 200),
    ({"stream": "maybe"}, 400),
    ({"stream": 2}, 400),
    ({"stream": None}, 400),
    ({"stream": True, "temperature": -1}, 400),
    ({"stream": True, "max_tokens": 8192}, 400),
    ({"stream_options": 5}, 400),
    ({"stream_options": {"include_usage": "x"}}, 400),
    ({"stream_options": {"include_usage": True}}, 200),
    ({"stop": 5}, 400),
    ({"stop": [5]}, 400),
    ({"stop": ["a"] * 33}, 400),
    ({"stop": []}, 200),
    ({"seed": "a"}, 400),
    ({"seed": 2**63}, 400),
    ({"seed": -1}, 200),
    ({"seed": 10**23}, 400),
    ({"logit_bias": {"a": 1}}, 400),
    ({"logit_bias": {"99999999": 1}}, 400),
    ({"logit_bias": {"5": 1}}, 200),
    ({"logit_bias": []}, 400),
    ({"logprobs": "x"}, 400),
    ({"model": 5}, 400),
    ({"model": None}, 400),
    ({"model": "base:adapter"}, 400),
    ({"user": 5}, 400),
    ({"user": "somebody"}, 200),
    ({"rid": 5}, 400),
    ({"rid": ["a"]}, 500),
    ({"priority": "x"}, 400),
    ({"priority": 1}, 200),
    ({"cache_salt": "a"}, 200),
    ({"response_format": {"type": "xml"}}, 400),
    ({"response_format": {"type": "json_schema"}}, 400),
    ({"regex": "[ab"}, 400),
    ({"regex": "a", "ebnf": 'root ::= "a"'}, 400),
    ({"stop_regex": "["}, 500),
    ({"lora_path": "x"}, 400),
    ({"custom_logit_processor": "x"}, 400),
    ({"return_hidden_states": True}, 400),
    ({"watermark": {"enabled": True}}, 400),
    ({"data_parallel_rank": 1}, 400),
    ({"routed_dp_rank": 3}, 400),
    ({"unknown_field": 5}, 200),
]
ON_CHAT: list[tuple[dict[str, Any], int]] = [
    ({"messages": []}, 400),
    ({"messages": None}, 400),
    ({"messages": "x"}, 400),
    ({"messages": [5]}, 400),
    ({"messages": [{"role": "alien", "content": "x"}]}, 400),
    ({"messages": [{"role": "user"}]}, 400),
    ({"messages": [{"role": "user", "content": None}]}, 400),
    ({"messages": [{"role": "user", "content": 5}]}, 400),
    ({"messages": [{"content": "x"}]}, 400),
    ({"messages": [{"role": "SYSTEM", "content": "x"}]}, 200),
    ({"messages": [{"role": "USER", "content": "x"}]}, 400),
    ({"messages": [{"role": "assistant"}]}, 200),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, 200),
    ({"messages": [{"role": "user", "content": [{"type": "bogus"}]}]}, 400),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, 400),
    ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, 400),
    ({"temperature": None}, 200),
    ({"max_tokens": 0}, 200),
    ({"max_completion_tokens": -1}, 400),
    ({"max_completion_tokens": "x"}, 400),
    ({"logprobs": 5}, 400),
    ({"logprobs": True, "top_logprobs": -1}, 200),
    ({"tools": 5}, 400),
    ({"tools": [{"type": "function", "function": {}}]}, 400),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "bogus"}}}]}, 400),
    ({"tool_choice": "required"}, 400),
    ({"tool_choice": "bad"}, 400),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, 400),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, 400),
    ({"parallel_tool_calls": "x"}, 400),
    ({"reasoning_effort": "huge"}, 400),
    ({"reasoning_effort": True}, 400),
    ({"reasoning_effort": "low"}, 200),
    ({"reasoning": {"effort": "bad"}}, 400),
    ({"chat_template_kwargs": 5}, 400),
    ({"chat_template_kwargs": {"chat_template": "x"}}, 400),
    ({"input_ids": []}, 400),
    ({"task": "x"}, 400),
]
ON_COMPLETIONS: list[tuple[dict[str, Any], int]] = [
    ({"prompt": ""}, 400),
    ({"prompt": []}, 400),
    ({"prompt": [""]}, 400),
    ({"prompt": [[]]}, 400),
    ({"prompt": None}, 400),
    ({"prompt": 5}, 400),
    ({"prompt": ["a", 1]}, 400),
    ({"prompt": [1.5]}, 400),
    ({"prompt": {"a": 1}}, 400),
    ({"prompt": "x " * 9000}, 400),
    ({"prompt": "x " * 9000, "stream": True}, 400),
    ({"prompt": ["a", "b"], "rid": ["x"]}, 400),
    ({"prompt": ["a", "b"], "rid": ["x", "x"]}, 400),
    ({"prompt": ["a", "b"], "rid": ["x", "y"]}, 200),
    ({"temperature": None}, 400),
    ({"max_tokens": 0}, 400),
    ({"max_tokens": None}, 400),
    ({"logprobs": -1}, 200),
    ({"logprobs": True}, 200),
    ({"json_schema": "{"}, 400),
    ({"best_of": 2}, 200),
    ({"suffix": "x"}, 200),
]
RAW: list[tuple[bytes, str | None, int]] = [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"null", "application/json", 400),
    (b'{"model":"m"}', "application/json", 400),
    (b'{"prompt":"a","max_tokens":1}', "application/json", 200),
    (b'{"prompt":"a","max_tokens":1}', "application/json; charset=utf-8", 200),
    (b'{"prompt":"a","max_tokens":1}', "text/plain", 400),
    (b'{"prompt":"a","max_tokens":1}', None, 400),
    (b'{"prompt":"\xff","max_tokens":1}', "application/json", 400),
    (b'{"prompt":"a","max_tokens":1,"temperature":NaN}', "application/json", 400),
    (b'{"prompt":"\\ud800","max_tokens":1}', "application/json", 400),
]
TABLE = (
    [(CHAT, CHAT_BODY | fields, status) for fields, status in ON_BOTH + ON_CHAT]
    + [(COMPLETIONS, COMPLETION_BODY | fields, status) for fields, status in ON_BOTH + ON_COMPLETIONS]
)  # fmt: skip


async def test_every_bad_request_has_its_status(engine: RunningEngine) -> None:
    wrong = []
    async with engine.client() as client:
        for path, body, status in TABLE:
            answer = await client.post(path, json=body)
            if answer.status_code != status:
                wrong.append((path, body, status, answer.status_code, answer.text[:200]))
    assert wrong == []


@pytest.mark.parametrize(("body", "kind", "status"), RAW)
async def test_bodies_that_are_no_requests(engine: RunningEngine, body: bytes, kind: str | None, status: int) -> None:
    async with engine.client() as client:
        answer = await client.post(COMPLETIONS, content=body, headers={} if kind is None else {"Content-Type": kind})
    assert answer.status_code == status, answer.text


async def test_an_error_is_flat_and_says_why(engine: RunningEngine) -> None:
    async with engine.client() as client:
        answer = await client.post(CHAT, json=CHAT_BODY | {"temperature": -1})
        wrong_type = await client.post(CHAT, json=CHAT_BODY | {"temperature": "hot"})
    assert answer.json() == {
        "object": "error",
        "message": "temperature must be a non-negative finite number, got -1.0.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }
    assert set(wrong_type.json()) == set(answer.json())
    assert "temperature" in wrong_type.json()["message"]


async def test_a_refused_request_counts_no_tokens(engine: RunningEngine) -> None:
    async with engine.client() as client:
        before = (await client.get("/metrics")).text
        await client.post(CHAT, content=json.dumps(CHAT_BODY | {"top_p": 7}))
        after = (await client.get("/metrics")).text
    totals = [
        [line for line in text.splitlines() if "tokens_total{" in line and "prompt" in line] for text in (before, after)
    ]
    assert totals[0] == totals[1]
