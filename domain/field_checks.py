"""Checks of JSON values in a request: each returns None, or what the value must be, as the end of a sentence.

Stricter than the engine, which reads "yes" as true and "5" as a number: what the gateway read in another way than the
engine does, it could not meter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Check = Callable[[object], str | None]

MAX_CHOICES = 128
MAX_COUNT = 2**31 - 1
"""Beyond it an engine's own reader fails, in words of its own."""
MAX_PROMPTS = 256
MAX_TOP_LOGPROBS = 20
MAX_GRAMMAR_CHARACTERS = 16_384
MAX_MESSAGES = 16_384
# SGLang answers 500 where a client sets one of these, and some would read a template of the client's.
_TEMPLATE_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "processor_kwargs",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
_REMOTE_PARTS = ("image_url", "video_url", "audio_url")
_PARTS = frozenset({"text", "thinking", "reasoning", "input_audio", "tool_reference", *_REMOTE_PARTS})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "latest_reminder", "root"})


@dataclass(frozen=True, kw_only=True)
class FieldLimits:
    """What depends on the deployment: whether media may be fetched from elsewhere, and the model's vocabulary.

    Without a known `vocabulary_size` prompts of token ids are refused: SGLang dies of an id outside the vocabulary."""

    remote_media: bool = False
    vocabulary_size: int | None = None


def anything(_value: object) -> str | None:
    """Whatever it is, it reaches nobody but the engine's template."""
    return None


def boolean(value: object) -> str | None:
    """true or false; null is neither."""
    return None if isinstance(value, bool) else "must be true or false"


def string(value: object) -> str | None:
    """Text."""
    return None if isinstance(value, str) else "must be a string"


def mapping(value: object) -> str | None:
    """A JSON object."""
    return None if isinstance(value, dict) else "must be an object"


def integer(low: int | None = None, high: int | None = None) -> Check:
    """A whole number within bounds, both inclusive."""
    expected = "must be an integer" + _bounds(low, high)

    def check(value: object) -> str | None:
        if type(value) is not int or (low is not None and value < low) or (high is not None and value > high):
            return expected
        return None

    return check


def number(low: float | None = None, high: float | None = None, *, above: float | None = None) -> Check:
    """A finite number within bounds; `above` is a lower bound that is itself outside."""
    expected = "must be a number" + (f" above {above:g}" if above is not None else "") + _bounds(low, high)

    def check(value: object) -> str | None:
        if type(value) not in (int, float):
            return expected
        read = value if isinstance(value, float) else float(_bounded(value))
        if not math.isfinite(read) or (above is not None and read <= above):
            return expected
        return expected if (low is not None and read < low) or (high is not None and read > high) else None

    return check


def nullable(check: Check) -> Check:
    """null, or what `check` accepts."""
    return lambda value: None if value is None else check(value)


def one_of(*names: str) -> Check:
    """One of a few words."""
    expected = f"must be one of {', '.join(repr(name) for name in names)}"
    return lambda value: None if isinstance(value, str) and value in names else expected


def text_up_to(characters: int) -> Check:
    """Text of a bounded length."""
    expected = f"must be a string of at most {characters} characters"
    return lambda value: None if isinstance(value, str) and len(value) <= characters else expected


def list_of(item: Check, high: int) -> Check:
    """A list of at most `high` items."""

    def check(value: object) -> str | None:
        if not isinstance(value, list) or len(value) > high:
            return f"must be a list of at most {high} items"
        for index, each in enumerate(value):
            fault = item(each)
            if fault is not None:
                return f"is wrong at item {index}, which {fault}"
        return None

    return check


def string_or_list(high: int) -> Check:
    """Text, or a list of texts."""
    texts = list_of(string, high)
    expected = f"must be a string or a list of at most {high} strings"
    return lambda value: None if isinstance(value, str) or texts(value) is None else expected


def logit_bias(value: object) -> str | None:
    """Token ids (as JSON names) to biases."""
    if isinstance(value, dict) and len(value) <= 1024:
        bias = number(-100, 100)
        if all(_token_id(name) and bias(each) is None for name, each in value.items()):
            return None
    return "must map at most 1024 token ids to numbers between -100 and 100"


def _token_id(name: str) -> bool:
    return len(name) <= 10 and name.isascii() and name.isdecimal()


def stream_options(value: object) -> str | None:
    """OpenAI's `include_usage` and SGLang's `continuous_usage_stats`."""
    if not isinstance(value, dict):
        return "must be an object"
    for name in ("include_usage", "continuous_usage_stats"):
        if value.get(name) is not None and not isinstance(value[name], bool):
            return f"is wrong: its '{name}' must be true or false"
    return None


def response_format(value: object) -> str | None:
    """The kinds of answer that SGLang can be held to."""
    kinds = ("text", "json_object", "json_schema", "structural_tag")
    if not isinstance(value, dict) or value.get("type") not in kinds:
        return f"must be an object with a 'type' of {', '.join(repr(kind) for kind in kinds)}"
    if value["type"] == "json_schema":
        inner = value.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            return "must hold the schema as an object in 'json_schema.schema'"
    return None


def tools(value: object) -> str | None:
    """A list of functions with names."""
    if not isinstance(value, list):
        return "must be a list"
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return f"is wrong at item {index}, which must be an object with a 'function' that has a 'name'"
    return None


def tool_choice(value: object) -> str | None:
    """A word, or the function to call."""
    if value in ("auto", "none", "required") and isinstance(value, str):
        return None
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return None
    return "must be 'auto', 'none', 'required' or an object with the function to call"


def reasoning_effort(value: object) -> str | None:
    """A tier, or a fraction below 1."""
    tiers = ("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")
    if (isinstance(value, str) and value in tiers) or number(0, 0.99)(value) is None:
        return None
    return f"must be one of {', '.join(repr(tier) for tier in tiers)} or a number between 0 and 0.99"


def chat_template_kwargs(value: object) -> str | None:
    """Switches of the model's own chat template; what the engine itself hands to the template is not one."""
    if not isinstance(value, dict):
        return "must be an object"
    taken = next((name for name in value if name in _TEMPLATE_ARGUMENTS), None)
    return None if taken is None else f"must not set '{taken}'"


def messages(value: object, limits: FieldLimits) -> str | None:
    """A chat's messages, each with a role and readable content."""
    if not isinstance(value, list) or not value or len(value) > MAX_MESSAGES:
        return f"must be a list of 1 to {MAX_MESSAGES} messages"
    for index, message in enumerate(value):
        fault = _message(message, limits)
        if fault is not None:
            return f"is wrong at message {index}: {fault}"
    return None


def prompt(value: object, limits: FieldLimits) -> str | None:
    """One prompt or several. Never an empty one among several: SGLang dies of it."""
    if isinstance(value, str):
        return None if value else "must not be empty"
    if not isinstance(value, list) or not value:
        return "must be a string, a list of strings, or token ids"
    if type(value[0]) is int:
        return _token_ids(value, limits)
    if len(value) > MAX_PROMPTS:
        return f"must not hold more than {MAX_PROMPTS} prompts"
    if isinstance(value[0], list):
        return next((fault for each in value if (fault := _token_ids(each, limits)) is not None), None)
    if not all(isinstance(each, str) for each in value):
        return "must be a string, a list of strings, or token ids"
    return None if all(value) else "must not hold an empty prompt"


def _message(message: object, limits: FieldLimits) -> str | None:
    if not isinstance(message, Mapping):
        return "it must be an object"
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        return f"its 'role' must be one of {', '.join(repr(each) for each in sorted(_ROLES))}"
    content = message.get("content")
    if isinstance(content, str) or (content is None and role != "user"):
        return None
    if not isinstance(content, list):
        return "its 'content' must be a string or a list of parts"
    return next((fault for part in content if (fault := _part(part, limits)) is not None), None)


def _part(part: object, limits: FieldLimits) -> str | None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str) or kind not in _PARTS:
        return f"each part of 'content' must have a 'type' of {', '.join(repr(each) for each in sorted(_PARTS))}"
    if kind == "text" and not isinstance(part.get("text"), str):
        return "a part of type 'text' must have a string in 'text'"
    if kind not in _REMOTE_PARTS:
        return None
    media = part.get(kind)
    url = media.get("url") if isinstance(media, Mapping) else None
    if not isinstance(media, Mapping) or not isinstance(url, str):
        return f"a part of type '{kind}' must have an object with a 'url'"
    if media.get("content_hash") is not None:
        return f"a part of type '{kind}' must not bring a 'content_hash'"
    if limits.remote_media and url.startswith(("https://", "http://")):
        return None
    return None if url.startswith("data:") else f"the 'url' of a part of type '{kind}' must be a data: URL"


def _token_ids(value: object, limits: FieldLimits) -> str | None:
    if limits.vocabulary_size is None:
        return "must be text: token ids are not accepted for this model"
    if not isinstance(value, list) or not value:
        return "must not hold an empty prompt"
    if all(type(token) is int and 0 <= token < limits.vocabulary_size for token in value):
        return None
    return f"must hold token ids from 0 to {limits.vocabulary_size - 1} only"


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" between {low} and {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _bounded(value: object) -> int:
    """An integer that fits a float; whatever is larger is as good as the largest."""
    assert isinstance(value, int)
    return max(-(10**300), min(10**300, value))
