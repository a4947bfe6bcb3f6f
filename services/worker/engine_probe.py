"""Asks an engine over HTTP whether it is ready, whether its key guards it, and what it has counted."""

from __future__ import annotations

import asyncio

import httpx

from schemas.heartbeats import EngineCounters

ANSWER_MAX_BYTES = 4_194_304

_COUNTERS = {
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:cached_tokens_total": "cached_tokens",
    "sglang:generation_tokens_total": "generation_tokens",
    "sglang:num_requests_total": "requests",
}


class EngineProbe:
    """Every question has its own connection and a limit of `timeout_s`; none raises.

    No connection is kept: an engine that takes no new one is not ready, and a kept one may close as it is used.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            trust_env=False,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def why_not_ready(self, address: str, api_key: str) -> str | None:
        """None for an engine that answers its health check with 200, else the reason in a few words."""
        status, _ = await self._get(address, "/health", api_key)
        return None if status == 200 else _said("its health check", status)

    async def why_not_guarded(self, address: str, api_key: str) -> str | None:
        """None where the engine takes this key and refuses whoever has none: so it is ours, and nobody else's."""
        status, _ = await self._get(address, "/v1/models", api_key)
        if status != 200:
            return _said("its own key", status)
        status, _ = await self._get(address, "/v1/models", None)
        return None if status in (401, 403) else _said("a request without a key", status)

    async def counters(self, address: str, api_key: str) -> EngineCounters | None:
        """The engine's token counters since its start, None when it did not tell."""
        status, text = await self._get(address, "/metrics", api_key)
        return counters_in(text) if status == 200 else None

    async def _get(self, address: str, path: str, api_key: str | None) -> tuple[int | None, str]:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        body = b""
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client.stream("GET", f"http://{address}{path}", headers=headers) as answer:
                    async for piece in answer.aiter_bytes():
                        body += piece
                        if len(body) > ANSWER_MAX_BYTES:
                            return None, ""
                    return answer.status_code, body.decode(errors="replace")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
            return None, ""


def _said(question: str, status: int | None) -> str:
    return f"{question} got no answer in time" if status is None else f"{question} got {status}"


def counters_in(text: str) -> EngineCounters:
    """The sums over all labels of the counters in a Prometheus text; what is not told counts as 0."""
    sums = dict.fromkeys(_COUNTERS.values(), 0.0)
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        field = _COUNTERS.get(name)
        if field is None:
            continue
        value = rest.rpartition("}")[2].split() if "{" in line else rest.split()
        try:
            sums[field] += float(value[0])
        except (IndexError, ValueError):
            continue
    return EngineCounters(**{field: int(value) for field, value in sums.items()})
