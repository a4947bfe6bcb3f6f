"""What the gateway refuses of a request before an engine sees it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.engine_fields import Endpoint, Policy, field_refusal, fields_of, fill_events
from domain.field_checks import FieldLimits

CHAT: dict[str, Any] = {"model": "public/deepseek-r1", "messages": [{"role": "user", "content": "Hello"}]}
COMPLETION: dict[str, Any] = {"model": "public/deepseek-r1", "prompt": "Hello"}
URL = "https://example.org/a.png"


def _image(url: str, **more: Any) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url, **more}}
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0, "top_p": 1, "max_tokens": 5, "n": 128, "stream": True, "stop": ["a", "b"], "seed": -1},
        {"stream_options": {"include_usage": True}, "user": "u", "temperature": None, "max_completion_tokens": None},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "a"}]},
        {"messages": _image("data:image/png;base64,AA")},
        {"logit_bias": {"5": -100}, "logprobs": True, "top_logprobs": 20},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"lora_path": None, "return_hidden_states": False},
        {"metadata": {"of": "OpenAI"}, "store": False, "anything_new": 5},
        {"rid": "theirs", "priority": "high", "cache_salt": 5},
    ],
)
def test_a_right_chat_passes(fields: dict[str, Any]) -> None:
    assert field_refusal(Endpoint.CHAT, CHAT | fields) is None


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": "hot"}, "temperature", "must be a number of at least 0"),
        ({"temperature": -0.1}, "temperature", "must be a number of at least 0"),
        ({"temperature": True}, "temperature", "must be a number"),
        ({"temperature": float("nan")}, "temperature", "must be a number"),
        ({"top_p": 0}, "top_p", "must be a number above 0 of at most 1"),
        ({"max_tokens": "5"}, "max_tokens", "must be an integer between 1 and 2147483647"),
        ({"max_tokens": 5.0}, "max_tokens", "must be an integer"),
        ({"max_tokens": 0}, "max_tokens", "must be an integer"),
        ({"max_tokens": 2**31}, "max_tokens", "must be an integer between 1 and 2147483647"),
        ({"max_completion_tokens": 10**23}, "max_completion_tokens", "must be an integer between 1 and 2147483647"),
        ({"min_tokens": 10**23}, "min_tokens", "must be an integer between 0 and 2147483647"),
        ({"top_k": 10**23}, "top_k", "must be an integer between -1 and 2147483647"),
        ({"n": -1}, "n", "must be an integer between 1 and 128"),
        ({"n": 129}, "n", "must be an integer between 1 and 128"),
        ({"n": True}, "n", "must be an integer"),
        ({"stream": "yes"}, "stream", "must be true or false"),
        ({"stream": 1}, "stream", "must be true or false"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options", "'include_usage' must be true or false"),
        ({"stop": [5]}, "stop", "must be a string or a list of at most 32 strings"),
        ({"top_k": 0}, "top_k", "must be -1 (off) or at least 1"),
        ({"top_logprobs": 5000}, "top_logprobs", "must be an integer between 0 and 20"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "must map at most 1024 token ids"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "must map at most 1024 token ids"),
        ({"response_format": 5}, "response_format", "must be an object"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "must hold the schema"),
        ({"tools": [{"function": {}}]}, "tools", "is wrong at item 0"),
        ({"messages": []}, "messages", "must be a list of 1 to"),
        ({"messages": ["hi"]}, "messages", "is wrong at message 0: it must be an object"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages", "its 'role' must be one of"),
        ({"messages": [{"role": "user"}]}, "messages", "its 'content' must be a string"),
        ({"messages": _image(URL)}, "messages", "must be a data: URL"),
        ({"messages": _image("data:,", content_hash="a")}, "messages", "must not bring a 'content_hash'"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages", "must have a 'type' of"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs", "must not set 'chat_template'"),
        ({"reasoning_effort": True}, "reasoning_effort", "must be one of"),
        ({"regex": "a", "ebnf": "b"}, "ebnf", "Only one of regex and ebnf"),
        ({"regex": "a" * 20_000}, "regex", "at most 16384 characters"),
        ({"lora_path": "x"}, "lora_path", "adapters are not offered"),
        ({"session_params": {"id": "x"}}, "session_params", "is not accepted"),
        ({"custom_logit_processor": "x"}, "custom_logit_processor", "is not accepted"),
        ({"data_parallel_rank": 0}, "data_parallel_rank", "the platform alone decides"),
        ({"bootstrap_host": "x"}, "bootstrap_host", "the platform alone decides"),
        ({"extra_key": "x"}, "extra_key", "is not accepted"),
        ({"input_ids": [1]}, "input_ids", "send 'messages'"),
        ({"stop_token_ids": [5]}, "stop_token_ids", "use 'stop'"),
    ],
)
def test_a_wrong_chat_is_refused_with_a_sentence(fields: dict[str, Any], param: str, words: str) -> None:
    refusal = field_refusal(Endpoint.CHAT, CHAT | fields)
    assert refusal is not None
    assert refusal.param == param
    assert words in refusal.message
    assert refusal.message.endswith(".")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "must not be empty"),
        ([], "must be a string"),
        (["a", ""], "must not hold an empty prompt"),
        (["a", 5], "must be a string"),
        (5, "must be a string"),
        ([1.5], "must be a string"),
        (["a"] * 257, "must not hold more than 256 prompts"),
        ([5, 6], "token ids are not accepted for this model"),
        ([[5], [6]], "token ids are not accepted for this model"),
    ],
)
def test_a_wrong_prompt_is_refused(prompt: Any, words: str) -> None:
    refusal = field_refusal(Endpoint.COMPLETIONS, COMPLETION | {"prompt": prompt})
    assert refusal is not None
    assert words in refusal.message


@pytest.mark.parametrize("prompt", ["a", ["a"], ["a", "b"], [0, 99], [[0], [99]]])
def test_a_right_prompt_passes(prompt: Any) -> None:
    limits = FieldLimits(vocabulary_size=100)
    assert field_refusal(Endpoint.COMPLETIONS, COMPLETION | {"prompt": prompt}, limits) is None


@pytest.mark.parametrize("prompt", [[100], [-1], [0, True], [0, "a"], [[0], [100]], [[0], []], [[0], "a"]])
def test_token_ids_outside_the_vocabulary_are_refused(prompt: Any) -> None:
    assert field_refusal(Endpoint.COMPLETIONS, COMPLETION | {"prompt": prompt}, FieldLimits(vocabulary_size=100))


@pytest.mark.parametrize("logprobs", [1, 20])
def test_a_prompt_with_what_is_known_of_its_tokens_is_not_streamed(logprobs: int) -> None:
    fields = COMPLETION | {"echo": True, "logprobs": logprobs}
    refusal = field_refusal(Endpoint.COMPLETIONS, fields | {"stream": True})
    assert refusal is not None
    assert refusal.param == "echo" and "send no 'stream'" in refusal.message
    assert field_refusal(Endpoint.COMPLETIONS, fields) is None


@pytest.mark.parametrize("fields", [{"echo": True}, {"logprobs": 20}, {"echo": True, "logprobs": 0}, {"echo": False}])
def test_either_alone_is_streamed(fields: dict[str, Any]) -> None:
    assert field_refusal(Endpoint.COMPLETIONS, COMPLETION | {"stream": True} | fields) is None
    assert field_refusal(Endpoint.CHAT, CHAT | {"stream": True, "echo": True, "logprobs": True}) is None


@pytest.mark.parametrize(
    ("fields", "filled"),
    [
        ({}, False),
        ({"echo": False, "logprobs": None, "return_token_ids": False}, False),
        ({"logprobs": False, "top_logprobs": None}, False),
        ({"n": 128, "tools": [], "stop": "a"}, False),
        ({"logprobs": True}, True),
        ({"logprobs": 0}, True),
        ({"echo": True}, True),
        ({"return_token_ids": True}, True),
    ],
)
def test_what_can_fill_an_event_is_asked_for(fields: dict[str, Any], filled: bool) -> None:
    assert fill_events(fields) is filled


def test_remote_media_passes_where_it_is_allowed() -> None:
    limits = FieldLimits(remote_media=True)
    assert field_refusal(Endpoint.CHAT, CHAT | {"messages": _image(URL)}, limits) is None
    assert field_refusal(Endpoint.CHAT, CHAT | {"messages": _image("file:///etc/passwd")}, limits)


@pytest.mark.parametrize(("endpoint", "missing"), [(Endpoint.CHAT, "messages"), (Endpoint.COMPLETIONS, "prompt")])
def test_what_an_answer_is_about_must_be_there(endpoint: Endpoint, missing: str) -> None:
    refusal = field_refusal(endpoint, {"model": "m"})
    assert refusal is not None
    assert refusal.param == missing


def test_what_is_ours_is_ours_on_both_endpoints() -> None:
    for endpoint in Endpoint:
        ours = {name for name, field in fields_of(endpoint).items() if field.policy is Policy.OURS}
        assert ours == {"rid", "priority", "cache_salt", "stream_options"}


def test_every_refused_field_says_why() -> None:
    for endpoint in Endpoint:
        for field in fields_of(endpoint).values():
            assert (field.policy is Policy.REFUSE) == bool(field.reason)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = sorted({name for endpoint in Endpoint for name in fields_of(endpoint)})


@given(st.sampled_from(Endpoint), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=6))
def test_whatever_json_arrives_the_answer_is_a_refusal_or_none(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    refusal = field_refusal(endpoint, (CHAT | COMPLETION) | fields, FieldLimits(vocabulary_size=100))
    assert refusal is None or refusal.message.startswith(("'", "Only one of"))


@given(
    st.lists(
        st.fixed_dictionaries({"role": _JSON, "content": st.lists(_JSON | st.fixed_dictionaries({"type": _JSON}))})
    )
)
def test_whatever_messages_arrive_the_answer_is_a_refusal_or_none(messages: list[Any]) -> None:
    refusal = field_refusal(Endpoint.CHAT, CHAT | {"messages": messages})
    assert refusal is None or refusal.param == "messages"
