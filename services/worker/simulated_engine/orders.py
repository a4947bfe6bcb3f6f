"""From a request's body to an order that the engine can run, with every refusal that SGLang would answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from services.worker.simulated_engine.refusals import Refused, wrong_type
from services.worker.simulated_engine.request_fields import CHAT, COMPLETION, read_fields
from services.worker.simulated_engine.tokens import VOCABULARY_SIZE, chat_text, pieces_of, pieces_of_ids

MAX_STOP_STRINGS = 32
MEDIA = {"image_url", "video_url", "audio_url", "input_audio"}


@dataclass(slots=True)
class Order:
    """One request as the engine runs it: `len(prompts) * n` sequences."""

    chat: bool
    model: str
    prompts: list[list[str]]
    echoes: list[str]
    n: int
    max_new_tokens: int | None
    min_new_tokens: int
    greedy: bool
    stop: list[str]
    trim_stop: bool
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    top_logprobs: int | None
    rid: str | None
    rids: list[str] | None
    salt: str


def read_order(chat: bool, body: Any, context_length: int) -> Order:
    """The order in `body`; raises `Refused` for whatever SGLang refuses."""
    fields = read_fields(body, CHAT if chat else COMPLETION, "messages" if chat else "prompt")
    prompts, echoes = _chat_prompts(fields) if chat else _completion_prompts(fields)
    limit = _token_limit(chat, fields)
    _check_sampling(fields, limit)
    _check_what_is_off(fields)
    n = fields.get("n", 1)
    if n < 1:
        # SGLang refuses 0; below that it answers one sequence and reports no prompt tokens, which nobody may rely on.
        raise Refused("range() arg 3 must not be zero", "BadRequest")
    for pieces in prompts:
        _check_length(len(pieces), limit, context_length)
    temperature = fields.get("temperature")
    stop = fields.get("stop")
    options = fields.get("stream_options") or {}
    logprobs = fields.get("logprobs")
    if chat:
        logprobs = (fields.get("top_logprobs") or 0) if logprobs else None
    rid = fields.get("rid")
    several = not chat and isinstance(fields["prompt"], list) and not isinstance(fields["prompt"][0], int)
    return Order(
        chat=chat,
        model=fields.get("model", "default"),
        prompts=prompts,
        echoes=echoes if fields.get("echo") else [],
        n=n,
        max_new_tokens=limit,
        min_new_tokens=fields.get("min_tokens", 0),
        greedy=(temperature is not None and temperature < 1e-6) or fields.get("top_k") == 1,
        stop=[stop] if isinstance(stop, str) else stop or [],
        trim_stop=not fields.get("no_stop_trim", False),
        ignore_eos=fields.get("ignore_eos", False),
        stream=fields.get("stream", False),
        include_usage=options.get("include_usage", False),
        continuous_usage=options.get("continuous_usage_stats", False),
        top_logprobs=logprobs,
        rid=rid if isinstance(rid, str) else None,
        rids=_sequence_ids(rid, len(prompts), several, n),
        salt=f"{fields.get('cache_salt')}\n{fields.get('extra_key')}",
    )


def _token_limit(chat: bool, fields: dict[str, Any]) -> int | None:
    if chat:
        either: int | None = fields.get("max_completion_tokens") or fields.get("max_tokens")
        return either
    limit: int = fields.get("max_tokens", 16)
    if limit <= 0:
        raise wrong_type(("max_tokens",), "Value error, max_tokens must be positive")
    return limit


def _sequence_ids(rid: Any, prompts: int, several: bool, n: int) -> list[str] | None:
    """The ids that an abort finds: the given one, one a prompt for a list, none of the client's with `n` > 1."""
    if isinstance(rid, list) and not several:
        raise Refused("Internal server error: unhashable type: 'list'", "InternalServerError", 500)
    if isinstance(rid, list) and len(rid) != prompts:
        raise Refused("The specified rids length mismatch with the batch_size for batch processing.")
    if rid is None or n > 1:
        return None
    if isinstance(rid, list):
        if len(set(rid)) != len(rid):
            raise Refused("Duplicate request IDs detected within the request")
        return rid
    return [f"{rid}_{index}" for index in range(prompts)] if several else [rid]


def _chat_prompts(fields: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    messages = fields["messages"]
    if not messages:
        raise Refused("Messages cannot be empty.")
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part["type"] in MEDIA:
                raise Refused(f"Model only supports text input; received unsupported content type '{part['type']}'.")
    if "chat_template" in (fields.get("chat_template_kwargs") or {}):
        raise Refused("Request-supplied chat_template is not allowed.")
    _check_tools(fields.get("tools") or [], fields.get("tool_choice"))
    ids = fields.get("input_ids")
    if ids is not None:
        return [_checked_ids(ids)], []
    return [pieces_of(chat_text(messages, fields.get("tools")))], []


def _check_tools(tools: list[Any], choice: Any) -> None:
    if choice == "required" and not tools:
        raise Refused("Tools cannot be empty if tool choice is set to required.")
    if isinstance(choice, dict):
        if not tools:
            raise Refused("Tools cannot be empty if tool choice is set to a specific tool.")
        name = choice["function"].get("name")
        if name not in [tool["function"]["name"] for tool in tools]:
            raise Refused(f"Tool '{name}' not found in tools list.")


def _completion_prompts(fields: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    prompt = fields["prompt"]
    if not prompt or (isinstance(prompt, list) and all(not each for each in prompt)):
        raise Refused("Prompt cannot be empty")
    if isinstance(prompt, str):
        return [pieces_of(prompt)], [prompt]
    if isinstance(prompt[0], int):
        pieces = _checked_ids(prompt)
        return [pieces], ["".join(pieces)]
    if isinstance(prompt[0], list):
        prompts = [_checked_ids(ids) for ids in prompt]
        return prompts, ["".join(pieces) for pieces in prompts]
    if not all(prompt):
        # The real engine dies of an empty prompt among others; the gateway must never pass one on.
        raise Refused("Prompt cannot be empty")
    return [pieces_of(text) for text in prompt], list(prompt)


def _checked_ids(ids: list[int]) -> list[str]:
    if not ids:
        raise Refused("input_ids cannot be empty.")
    if not all(0 <= token < VOCABULARY_SIZE for token in ids):
        # The real engine dies of such an id; the gateway must never pass one on.
        raise Refused(f"The input_ids contain values greater than the vocab size ({VOCABULARY_SIZE}).")
    return pieces_of_ids(ids)


def _check_sampling(fields: dict[str, Any], limit: int | None) -> None:
    for name, low, high, sentence in (
        ("temperature", 0.0, math.inf, "temperature must be a non-negative finite number, got {}."),
        ("top_p", 5e-324, 1.0, "top_p must be in (0, 1], got {}."),
        ("min_p", 0.0, 1.0, "min_p must be in [0, 1], got {}."),
        ("frequency_penalty", -2.0, 2.0, "frequency_penalty must be in [-2, 2], got {}."),
        ("presence_penalty", -2.0, 2.0, "presence_penalty must be in [-2, 2], got {}."),
        ("repetition_penalty", 5e-324, 2.0, "repetition_penalty must be in (0, 2] (1.0 = no penalty), got {}."),
        ("seed", -(2**63), 2**63 - 1, "sampling_seed must be in [-2**63, 2**63 - 1], got {}."),
        ("min_tokens", 0, math.inf, "min_new_tokens must be in [0, max_new_tokens], got {}."),
    ):
        value = fields.get(name)
        if value is not None and (not low <= value <= high or value in (math.inf, -math.inf)):
            raise Refused(sentence.format(value))
    top_k = fields.get("top_k")
    if top_k is not None and top_k < 1 and top_k != -1:
        raise Refused(f"top_k must be -1 (disable) or at least 1, got {top_k}.")
    if limit is not None:
        if limit < 0:
            raise Refused(f"max_new_tokens must be at least 0, got {limit}.")
        if fields.get("min_tokens", 0) > limit:
            raise Refused(f"min_new_tokens must be in [0, max_new_tokens({limit})], got {fields['min_tokens']}.")
    for token in fields.get("logit_bias") or ():
        if not token.lstrip("-").isdigit() or not 0 <= int(token) < VOCABULARY_SIZE:
            raise Refused(f"logit_bias must has keys in [0, {VOCABULARY_SIZE - 1}], got {token}.")
    stop = fields.get("stop")
    if isinstance(stop, list) and len(stop) > MAX_STOP_STRINGS:
        raise Refused(f"at most {MAX_STOP_STRINGS} stop strings are allowed, got {len(stop)}")
    if sum(bool(fields.get(name)) for name in ("json_schema", "regex", "ebnf")) > 1:
        raise Refused("Only one of json_schema, regex, ebnf, or structural_tag can be set.")


def _check_what_is_off(fields: dict[str, Any]) -> None:
    """What the engine was not started for."""
    adapter = fields.get("lora_path")
    if ":" in fields.get("model", ""):
        adapter = fields["model"].split(":", 1)[1].strip() or adapter
    if adapter:
        raise Refused(f"LoRA adapter '{adapter}' was requested, but LoRA is not enabled.")
    if fields.get("custom_logit_processor"):
        raise Refused("The server is not configured to enable custom logit processor.")
    if fields.get("return_hidden_states"):
        raise Refused("The server is not configured to return hidden states.")
    if fields.get("watermark"):
        raise Refused("request watermarking requires the server to enable --enable-watermark")
    rank = fields.get("routed_dp_rank") or fields.get("data_parallel_rank")
    if rank:
        raise Refused(f"routed_dp_rank={rank} out of range [0, 1)")


def _check_length(prompt_tokens: int, limit: int | None, context_length: int) -> None:
    if prompt_tokens >= context_length:
        raise Refused(
            f"The input ({prompt_tokens} tokens) is longer than the model's context length ({context_length} tokens)."
        )
    if limit is not None and prompt_tokens + limit > context_length:
        raise Refused(
            f"Requested token count exceeds the model's maximum context length of {context_length} tokens. "
            f"You requested a total of {prompt_tokens + limit} tokens: {prompt_tokens} tokens from the input messages "
            f"and {limit} tokens for the completion. Please reduce the number of tokens in the input messages or the "
            "completion to fit within the limit."
        )
