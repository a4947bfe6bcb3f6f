"""Every field of the two endpoints and how SGLang reads it; an unknown field is ignored, as SGLang does."""

from __future__ import annotations

import json
import re
from typing import Any

from services.worker.simulated_engine.coercions import (
    Coercion,
    Place,
    anything,
    integer,
    list_of,
    map_to,
    mapping,
    number,
    one_of,
    optional,
    string,
    string_or_list,
    truth,
)
from services.worker.simulated_engine.refusals import Refused, wrong_type

_ROLES = {"system", "assistant", "tool", "function", "developer", "latest_reminder", "root"}
_PARTS = {"text": "text", "thinking": None, "reasoning": None, "tool_reference": "name"} | dict.fromkeys(
    ("image_url", "video_url", "audio_url", "input_audio")
)
_JSON_TYPES = {"null", "boolean", "object", "array", "number", "string", "integer"}
_EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"}


def _message(value: Any, place: Place) -> dict[str, Any]:
    message = dict(mapping(value, place))
    role = message.get("role")
    if not isinstance(role, str):
        raise wrong_type((*place, "role"), "Field required: 'role' must be a string")
    if role != "user":
        role = role.lower()
        if role not in _ROLES:
            raise wrong_type((*place, "role"), f"'role' must be one of {', '.join(sorted(_ROLES))}")
        message["role"] = role
    for call in optional(list_of(mapping))(message.get("tool_calls"), (*place, "tool_calls")) or ():
        _call_arguments(call)
    content = message.get("content")
    if content is None and role != "user":
        return message
    if isinstance(content, list):
        for index, part in enumerate(content):
            _content_part(part, (*place, "content", index))
    elif not isinstance(content, str):
        raise wrong_type((*place, "content"), "Input should be a valid string or a list of parts")
    return message


def _call_arguments(call: Any) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, str):
        try:
            json.loads(arguments)
        except ValueError as cause:
            raise Refused("Assistant tool call function.arguments must be valid JSON.") from cause


def _content_part(part: Any, place: Place) -> None:
    kind = mapping(part, place).get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise wrong_type((*place, "type"), "Input should be a known kind of content")
    needed = _PARTS[kind]
    if needed is not None:
        string(part.get(needed), (*place, needed))


def _tool(value: Any, place: Place) -> dict[str, Any]:
    tool = mapping(value, place)
    function = mapping(tool.get("function"), (*place, "function"))
    string(function.get("name"), (*place, "function", "name"))
    parameters = function.get("parameters")
    kind = parameters.get("type") if isinstance(parameters, dict) else None
    if isinstance(kind, str) and kind not in _JSON_TYPES:
        raise Refused(f"Tool {place[-1]} function has invalid 'parameters' schema: '{kind}' is not valid")
    return tool


def _tool_choice(value: Any, place: Place) -> Any:
    if value is None or value in ("auto", "required", "none"):
        return value
    mapping(mapping(value, place).get("function"), (*place, "function"))
    return value


def _effort(value: Any, place: Place) -> Any:
    if isinstance(value, bool):
        raise wrong_type(place, "Value error, reasoning_effort must not be a boolean")
    if value is None or (isinstance(value, str) and value in _EFFORTS):
        return value
    read = number(value, place)
    if not 0.0 <= read <= 0.99:
        raise wrong_type(place, "Input should be between 0 and 0.99")
    return read


def _reasoning(value: Any, place: Place) -> Any:
    effort = value.get("effort") if isinstance(value, dict) else None
    if isinstance(effort, str) and effort not in _EFFORTS:
        number(effort, place)
    return value


def _pattern(value: Any, place: Place) -> Any:
    if value:
        try:
            re.compile(string(value, place))
        except re.error as cause:
            raise Refused(f"Failed to compile regex grammar: {cause}") from cause
    return value


def _schema_text(value: Any, place: Place) -> Any:
    if value:
        try:
            json.loads(string(value, place))
        except ValueError as cause:
            raise Refused(f"Failed to compile json grammar: {cause}") from cause
    return value


def _response_format(value: Any, place: Place) -> Any:
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise Refused("Internal Server Error", "InternalServerError", 500)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema", "structural_tag"):
        raise wrong_type((*place, "type"), "Input should be 'text', 'json_object' or 'json_schema'")
    schema = value.get("json_schema") or {}
    if kind == "json_schema" and not (mapping(schema, place).get("schema") or value.get("schema")):
        raise Refused("schema_ is required for json_schema response format request.")
    return value


def _prompt(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type(place, "Input should be a string, a list of strings or a list of token ids")
    if all(isinstance(each, str) for each in value):
        return value
    if all(isinstance(each, list) for each in value):
        return list_of(list_of(integer))(value, place)
    return list_of(integer)(value, place)


def _stop_regex(value: Any, place: Place) -> Any:
    read = optional(string_or_list(string))(value, place)
    for pattern in [read] if isinstance(read, str) else read or []:
        try:
            re.compile(pattern)
        except re.error as cause:
            raise Refused(f"Internal server error: {cause}", "InternalServerError", 500) from cause
    return read


def _hidden_states(value: Any, place: Place) -> Any:
    return value if value == "last" else truth(value, place)


def _stream_options(value: Any, place: Place) -> Any:
    if value is None:
        return None
    options = mapping(value, place)
    return {
        name: truth(options[name], (*place, name))
        for name in ("include_usage", "continuous_usage_stats")
        if options.get(name) is not None
    }


_names = optional(string_or_list(string))
_tokens = optional(list_of(integer))
_SHARED: dict[str, Coercion] = {
    "model": string,
    "frequency_penalty": number,
    "logit_bias": optional(map_to(number)),
    "n": integer,
    "presence_penalty": number,
    "response_format": _response_format,
    "seed": optional(integer),
    "stop": _names,
    "stream": truth,
    "stream_options": _stream_options,
    "user": optional(string),
    "return_hidden_states": _hidden_states,
    "return_routed_experts": truth,
    "routed_experts_start_len": integer,
    "return_cached_tokens_details": truth,
    "return_spec_tokens_details": truth,
    "return_token_ids": truth,
    "min_tokens": integer,
    "regex": _pattern,
    "ebnf": optional(string),
    "stop_token_ids": _tokens,
    "stop_regex": _stop_regex,
    "no_stop_trim": truth,
    "ignore_eos": truth,
    "skip_special_tokens": truth,
    "lora_path": _names,
    "session_id": optional(string),
    "session_params": optional(mapping),
    "custom_params": optional(mapping),
    "custom_logit_processor": anything,
    "watermark": optional(mapping),
    "images_config": optional(mapping),
    "mm_processor_kwargs": optional(mapping),
    "data_parallel_rank": optional(integer),
    "routed_dp_rank": optional(integer),
    "disagg_prefill_dp_rank": optional(integer),
    "rid": _names,
    "extra_key": _names,
    "cache_salt": _names,
    "priority": optional(integer),
}
CHAT: dict[str, Coercion] = _SHARED | {
    "messages": list_of(_message),
    "logprobs": truth,
    "top_logprobs": optional(integer),
    "max_tokens": optional(integer),
    "max_completion_tokens": optional(integer),
    "temperature": optional(number),
    "top_p": optional(number),
    "tools": optional(list_of(_tool)),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": truth,
    "reasoning_effort": _effort,
    "reasoning": _reasoning,
    "top_k": optional(integer),
    "min_p": optional(number),
    "repetition_penalty": optional(number),
    "continue_final_message": truth,
    "separate_reasoning": truth,
    "stream_reasoning": truth,
    "chat_template_kwargs": optional(mapping),
    "task": optional(one_of("action", "query", "authority", "domain", "title", "read_url")),
    "input_ids": _tokens,
    "return_meta_info": truth,
    "return_prompt_token_ids": truth,
}
COMPLETION: dict[str, Coercion] = _SHARED | {
    "prompt": _prompt,
    "best_of": optional(integer),
    "echo": truth,
    "logprobs": optional(integer),
    "max_tokens": integer,
    "suffix": optional(string),
    "temperature": number,
    "top_p": number,
    "top_k": integer,
    "min_p": number,
    "repetition_penalty": number,
    "json_schema": _schema_text,
    "custom_labels": optional(mapping),
}


def read_fields(body: Any, table: dict[str, Coercion], required: str) -> dict[str, Any]:
    """The known fields of a body, read laxly; raises `Refused` at the first that does not read."""
    if not isinstance(body, dict):
        raise wrong_type((), "Input should be a valid dictionary")
    if required not in body:
        raise wrong_type((required,), "Field required")
    fields: dict[str, Any] = {}
    for name, value in body.items():
        read = table.get(name)
        if read is not None:
            fields[name] = read(value, (name,))
    return fields
