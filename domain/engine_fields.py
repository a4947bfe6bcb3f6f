"""Every field of the engine's two request types: passed on, refused, or set by us.

The contract suite fails when the pinned SGLang has a field that this table lacks, so no new field of an engine reaches
it unread. Fields that SGLang does not know are ignored by it and pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from domain.field_checks import (
    MAX_CHOICES,
    MAX_COUNT,
    MAX_GRAMMAR_CHARACTERS,
    MAX_TOP_LOGPROBS,
    Check,
    FieldLimits,
    anything,
    boolean,
    chat_template_kwargs,
    integer,
    logit_bias,
    mapping,
    messages,
    nullable,
    number,
    one_of,
    prompt,
    reasoning_effort,
    response_format,
    stream_options,
    string,
    string_or_list,
    text_up_to,
    tool_choice,
    tools,
)


class Endpoint(Enum):
    """The two request types, by path without the /v1 prefix that clients may leave out."""

    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"


class Policy(Enum):
    """PASS goes to the engine as the client wrote it, REFUSE is answered 400, OURS is overwritten by the gateway."""

    PASS = "pass"
    REFUSE = "refuse"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class EngineField:
    """One field. `check` is None where nothing is read; `reason` says why a refused field is refused."""

    policy: Policy
    check: Check | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FieldRefusal:
    """Why a request is refused: `param` is the field, `message` a sentence for the client."""

    param: str
    message: str


def _passed(check: Check) -> EngineField:
    return EngineField(Policy.PASS, check)


def _refused(reason: str) -> EngineField:
    return EngineField(Policy.REFUSE, None, reason)


_OURS = EngineField(Policy.OURS)
_INTERNALS = "it shows or steers the engine's internals"
_ROUTING = "the platform alone decides where a request runs"
_ADAPTERS = "adapters are not offered"
_CODE = "it would run code of the client's in the engine"
_SESSIONS = "sessions inside an engine could be shared between customers"
_CACHE = "what is cached stays within an account, which only the platform can tell"
_PROCESSOR = "it reaches into the engine's processing of media"
_METRICS = "metric labels are the operator's"
_WATERMARK = "watermarks are the operator's"

_TOKEN_LIMIT = integer(1, MAX_COUNT)
_STOP = nullable(string_or_list(32))

_SHARED: dict[str, EngineField] = {
    "model": _passed(string),
    "frequency_penalty": _passed(number(-2, 2)),
    "presence_penalty": _passed(number(-2, 2)),
    "logit_bias": _passed(nullable(logit_bias)),
    "n": _passed(integer(1, MAX_CHOICES)),
    "seed": _passed(nullable(integer(-(2**63), 2**63 - 1))),
    "stop": _passed(_STOP),
    "stream": _passed(boolean),
    "stream_options": EngineField(Policy.OURS, nullable(stream_options)),
    "user": _passed(nullable(string)),
    "response_format": _passed(nullable(response_format)),
    "min_tokens": _passed(integer(0, MAX_COUNT)),
    "regex": _passed(nullable(text_up_to(MAX_GRAMMAR_CHARACTERS))),
    "ebnf": _passed(nullable(text_up_to(MAX_GRAMMAR_CHARACTERS))),
    "no_stop_trim": _passed(boolean),
    "ignore_eos": _passed(boolean),
    "skip_special_tokens": _passed(boolean),
    "return_token_ids": _passed(boolean),
    "return_cached_tokens_details": _passed(boolean),
    "return_spec_tokens_details": _passed(boolean),
    "rid": _OURS,
    "priority": _OURS,
    "cache_salt": _OURS,
    "extra_key": _refused(_CACHE),
    "stop_token_ids": _refused("an id outside the vocabulary can end the engine; use 'stop'"),
    "stop_regex": _refused("a pattern can hold up the whole engine; use 'stop'"),
    "return_hidden_states": _refused(_INTERNALS),
    "return_routed_experts": _refused(_INTERNALS),
    "routed_experts_start_len": _refused(_INTERNALS),
    "lora_path": _refused(_ADAPTERS),
    "session_id": _refused(_SESSIONS),
    "session_params": _refused(_SESSIONS),
    "custom_params": _refused(_INTERNALS),
    "custom_logit_processor": _refused(_CODE),
    "watermark": _refused(_WATERMARK),
    "images_config": _refused(_PROCESSOR),
    "mm_processor_kwargs": _refused(_PROCESSOR),
    "bootstrap_host": _refused(_ROUTING),
    "bootstrap_port": _refused(_ROUTING),
    "bootstrap_room": _refused(_ROUTING),
    "routed_dp_rank": _refused(_ROUTING),
    "disagg_prefill_dp_rank": _refused(_ROUTING),
    "data_parallel_rank": _refused(_ROUTING),
}

CHAT_FIELDS: Mapping[str, EngineField] = _SHARED | {
    # Checked with the deployment's limits, in `field_refusal`.
    "messages": _passed(anything),
    "logprobs": _passed(boolean),
    "top_logprobs": _passed(nullable(integer(0, MAX_TOP_LOGPROBS))),
    "max_tokens": _passed(nullable(_TOKEN_LIMIT)),
    "max_completion_tokens": _passed(nullable(_TOKEN_LIMIT)),
    "temperature": _passed(nullable(number(0))),
    "top_p": _passed(nullable(number(above=0, high=1))),
    "top_k": _passed(nullable(integer(-1, MAX_COUNT))),
    "min_p": _passed(nullable(number(0, 1))),
    "repetition_penalty": _passed(nullable(number(above=0, high=2))),
    "tools": _passed(nullable(tools)),
    "tool_choice": _passed(nullable(tool_choice)),
    "parallel_tool_calls": _passed(boolean),
    # No field of the engine's type, but its validator reads it.
    "reasoning": _passed(nullable(mapping)),
    "reasoning_effort": _passed(nullable(reasoning_effort)),
    "thinking": _passed(anything),
    "task": _passed(nullable(one_of("action", "query", "authority", "domain", "title", "read_url"))),
    "continue_final_message": _passed(boolean),
    "separate_reasoning": _passed(boolean),
    "stream_reasoning": _passed(boolean),
    "chat_template_kwargs": _passed(nullable(chat_template_kwargs)),
    "return_prompt_token_ids": _passed(boolean),
    "max_dynamic_patch": _passed(nullable(integer(1, 64))),
    "min_dynamic_patch": _passed(nullable(integer(1, 64))),
    "use_audio_in_video": _passed(boolean),
    "video_config": _refused(_PROCESSOR),
    "input_ids": _refused("it goes past the model's chat template; send 'messages'"),
    "return_meta_info": _refused(_INTERNALS),
    "return_input_ids_in_sglext": _refused(_INTERNALS),
    "return_output_ids_in_sglext": _refused(_INTERNALS),
    "return_sampling_mask": _refused(_INTERNALS),
    "sampling_logprobs_mode": _refused(_INTERNALS),
    "return_flat_raw_output_top_logprobs": _refused(_INTERNALS),
    "return_flat_raw_top_logprobs_b64": _refused(_INTERNALS),
}

COMPLETION_FIELDS: Mapping[str, EngineField] = _SHARED | {
    # Checked with the deployment's limits, in `field_refusal`.
    "prompt": _passed(anything),
    "best_of": _passed(nullable(integer(1, MAX_CHOICES))),
    "echo": _passed(boolean),
    "logprobs": _passed(nullable(integer(0, MAX_TOP_LOGPROBS))),
    "max_tokens": _passed(_TOKEN_LIMIT),
    "suffix": _passed(nullable(string)),
    "temperature": _passed(number(0)),
    "top_p": _passed(number(above=0, high=1)),
    "top_k": _passed(integer(-1, MAX_COUNT)),
    "min_p": _passed(number(0, 1)),
    "repetition_penalty": _passed(number(above=0, high=2)),
    "json_schema": _passed(nullable(text_up_to(MAX_GRAMMAR_CHARACTERS))),
    "custom_labels": _refused(_METRICS),
}

_NO_LIMITS = FieldLimits()
_CONSTRAINTS = frozenset({"regex", "ebnf", "json_schema"})
_ContentCheck = Callable[[object, FieldLimits], str | None]


def fields_of(endpoint: Endpoint) -> Mapping[str, EngineField]:
    """The table of one request type, by field name."""
    return CHAT_FIELDS if endpoint is Endpoint.CHAT else COMPLETION_FIELDS


def field_refusal(
    endpoint: Endpoint, body: Mapping[str, object], limits: FieldLimits = _NO_LIMITS
) -> FieldRefusal | None:
    """The first reason to refuse a decoded request with 400, or None.

    Costs one table look-up and one check per field that the client sent."""
    table = CHAT_FIELDS if endpoint is Endpoint.CHAT else COMPLETION_FIELDS
    for name, value in body.items():
        field = table.get(name)
        if field is None:
            continue
        if field.check is not None:
            fault = field.check(value)
            if fault is not None:
                return FieldRefusal(name, f"'{name}' {fault}.")
        elif field.policy is Policy.REFUSE and value is not None and value is not False:
            return FieldRefusal(name, f"'{name}' is not accepted: {field.reason}.")
    if endpoint is Endpoint.CHAT:
        return _content_refusal("messages", messages, body, limits) or _contradiction(body)
    return _content_refusal("prompt", prompt, body, limits) or _prompt_in_one_event(body) or _contradiction(body)


def _content_refusal(
    name: str, check: _ContentCheck, body: Mapping[str, object], limits: FieldLimits
) -> FieldRefusal | None:
    if name not in body:
        return FieldRefusal(name, f"'{name}' is missing.")
    fault = check(body[name], limits)
    return None if fault is None else FieldRefusal(name, f"'{name}' {fault}.")


def _prompt_in_one_event(body: Mapping[str, object]) -> FieldRefusal | None:
    """The engine sends what it knows of each token of a prompt in that prompt's first event, however long it is."""
    if body.get("stream") is True and body.get("echo") is True and body.get("logprobs"):
        return FieldRefusal(
            "echo", "'echo' with 'logprobs' is not streamed: leave one of them out, or send no 'stream'."
        )
    return None


def fill_events(body: Mapping[str, object]) -> bool:
    """Whether a checked request asks for what can make one event of its stream very large.

    That is the prompt, or lists beside every token: what waits for a client that does not read, the engine sends as one
    event. Text alone stays small."""
    # A number in one request type, where 0 still names each token; a switch in the other.
    logprobs = body.get("logprobs")
    asked = logprobs is not None and logprobs is not False
    return asked or bool(body.get("echo") or body.get("return_token_ids"))


def _contradiction(body: Mapping[str, object]) -> FieldRefusal | None:
    """What is right alone and wrong together."""
    if body.get("top_k") == 0:
        return FieldRefusal("top_k", "'top_k' must be -1 (off) or at least 1.")
    if _CONSTRAINTS.isdisjoint(body):
        return None
    constraints = [name for name in ("regex", "ebnf", "json_schema") if body.get(name)]
    if len(constraints) > 1:
        return FieldRefusal(constraints[1], f"Only one of {' and '.join(constraints)} can be given.")
    return None
