"""A request's body: decoded, checked against the table of the engine's fields, and given the fields that are ours.

JSON's last duplicate wins at the engine as it does here, so our fields are spliced in before the final brace: a body of
100 KB is not encoded again, and what a client sent under the same names is overridden.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain import engine_fields
from domain.field_checks import FieldLimits
from schemas.usage import Endpoint
from services.gateway import answers
from services.gateway.answers import Refusal

_decode = msgspec.json.Decoder().decode
_ENDPOINTS = {
    "chat.completions": engine_fields.Endpoint.CHAT,
    "completions": engine_fields.Endpoint.COMPLETIONS,
}


class RequestBody:
    """What the gateway knows of an inference request. `prompts` is 0 unless a list of prompts was sent."""

    __slots__ = ("_open", "continuous_usage", "fills_events", "include_usage", "model", "n", "prompts", "stream")

    def __init__(self, raw: bytes, fields: dict[str, Any]) -> None:
        self.model: str = fields["model"]
        self.stream: bool = fields.get("stream", False)
        self.n: int = fields.get("n", 1)
        options = fields.get("stream_options") or {}
        self.include_usage = bool(options.get("include_usage"))
        self.continuous_usage = bool(options.get("continuous_usage_stats"))
        self.fills_events = self.stream and engine_fields.fill_events(fields)
        prompt = fields.get("prompt")
        several = isinstance(prompt, list) and not isinstance(prompt[0], int)
        self.prompts = len(prompt) if prompt is not None and several else 0
        self._open = raw[: raw.rindex(b"}")]

    def for_engine(self, engine_request_id: str, account: str, priority: int | None) -> bytes:
        """The body with `rid`, `cache_salt`, and what else is ours."""
        ours = f',"rid":"{engine_request_id}","cache_salt":"{account}"'
        if priority is not None:
            ours += f',"priority":{priority}'
        if self.stream:
            # An engine cannot abort n > 1 by id, so there every chunk must say what has been used so far.
            continuous = "true" if self.n > 1 or self.continuous_usage else "false"
            ours += f',"stream_options":{{"include_usage":true,"continuous_usage_stats":{continuous}}}'
        return b"%b%b}" % (self._open, ours.encode())

    def engine_request_ids(self, engine_request_id: str) -> list[str]:
        """Every id under which the engine tracks it, for an abort."""
        if self.prompts:
            return [f"{engine_request_id}_{index}" for index in range(self.prompts)]
        return [engine_request_id]

    @property
    def foreign_id(self) -> bool:
        """Whether the engine answers under another id than the one it was given."""
        return self.n > 1 or self.prompts > 0


def read(raw: bytes, endpoint: Endpoint, limits: FieldLimits, values_max: int) -> RequestBody:
    """Decode and check. Raises Refusal: 400 that names the field, or 413 for too many lists and objects.

    Those are counted first, without decoding: millions of them in a few bytes each would hold up every other request.
    """
    if len(raw) > values_max and raw.count(b"[") + raw.count(b"{") > values_max:
        raise answers.too_many_values(values_max)
    try:
        fields = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, "The request's body is not valid JSON. Send one JSON object.", code="invalid_json"
        ) from error
    if not isinstance(fields, dict):
        raise Refusal(400, "The request's body must be one JSON object.", code="invalid_json")
    if "model" not in fields:
        raise Refusal(400, "'model' is missing. Name one of GET /v1/models.", param="model", code="missing_field")
    fault = engine_fields.field_refusal(_ENDPOINTS[endpoint], fields, limits)
    if fault is not None:
        raise Refusal(400, fault.message, param=fault.param, code="invalid_field")
    return RequestBody(raw, fields)
