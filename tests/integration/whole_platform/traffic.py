"""Mixed requests as customers make them, well and badly behaved, and what each client saw of its own."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Kind = Callable[["Caller", str], Awaitable[None]]
LONG = 400
"""Tokens of an answer whose client leaves before its end."""


@dataclass
class Caller:
    """One customer's key. `sent` counts authenticated inference requests, `answered` those answered in full."""

    url: str
    key: str
    random: random.Random
    sent: int = 0
    answered: int = 0
    failed: int = 0
    left: int = 0
    refused: int = 0
    usages: list[tuple[str, int, int]] = field(default_factory=list)
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
        headers = {"Authorization": f"Bearer {self.key}"}
        self.client = httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=120)

    def chat(self, model: str, tokens: int, **fields: Any) -> dict[str, Any]:
        content = "word " * self.random.randint(1, 30)
        return {"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": content}]} | fields

    async def complete(self, path: str, body: dict[str, Any]) -> None:
        """One unstreamed request to its end."""
        self.sent += 1
        answer = await self.client.post(path, json=body)
        if answer.status_code != 200:
            self.failed += 1
            return
        usage = answer.json()["usage"]
        self.answered += 1
        self.usages.append((answer.json()["id"], usage["prompt_tokens"], usage["completion_tokens"]))

    async def stream(self, path: str, body: dict[str, Any], leave_after: int | None = None) -> None:
        """One stream, read to its end or left after so many lines."""
        self.sent += 1
        lines = 0
        try:
            async with self.client.stream("POST", path, json=body | {"stream": True}) as answer:
                if answer.status_code != 200:
                    self.failed += 1
                    return
                async for line in answer.aiter_lines():
                    lines += bool(line)
                    if leave_after is not None and lines >= leave_after:
                        self.left += 1
                        return
                    if line == "data: [DONE]":
                        self.answered += 1
                        return
        except httpx.HTTPError:
            pass
        self.failed += 1

    async def leave_unstreamed(self, path: str, body: dict[str, Any], after_s: float) -> None:
        """One unstreamed request, sent whole, whose client goes away while it waits.

        By a socket of its own: a client library may give up before it has sent anything, and then nothing happened.
        """
        self.sent += 1
        self.left += 1
        host, port = self.client.base_url.host, self.client.base_url.port
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        _, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + content)
        await writer.drain()
        await asyncio.sleep(after_s)
        writer.close()

    async def expect_refusal(self, path: str, body: dict[str, Any], status: int) -> None:
        """One request that must be refused."""
        self.sent += 1
        self.refused += 1
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, (answer.status_code, answer.text)


async def chat(caller: Caller, model: str) -> None:
    await caller.complete("/v1/chat/completions", caller.chat(model, caller.random.randint(1, 24)))


async def chat_stream(caller: Caller, model: str) -> None:
    asked = {"stream_options": {"include_usage": True}} if caller.random.random() < 0.5 else {}
    await caller.stream("/v1/chat/completions", caller.chat(model, caller.random.randint(1, 24), **asked))


async def several_prompts(caller: Caller, model: str) -> None:
    body = {"model": model, "prompt": ["one", "two two", "three three three"], "max_tokens": 6}
    await (caller.complete if caller.random.random() < 0.5 else caller.stream)("/v1/completions", body)


async def several_choices(caller: Caller, model: str) -> None:
    body = caller.chat(model, 6, n=3)
    await (caller.complete if caller.random.random() < 0.5 else caller.stream)("/v1/chat/completions", body)


async def leave_stream(caller: Caller, model: str) -> None:
    await caller.stream("/v1/chat/completions", caller.chat(model, LONG), caller.random.randint(1, 20))


async def leave_prompts(caller: Caller, model: str) -> None:
    body = {"model": model, "prompt": ["one", "two"], "max_tokens": LONG}
    await caller.stream("/v1/completions", body, caller.random.randint(1, 10))


async def leave_unstreamed(caller: Caller, model: str) -> None:
    body = caller.chat(model, LONG)
    await caller.leave_unstreamed("/v1/chat/completions", body, 0.3 + caller.random.random() * 0.3)


async def leave_choices(caller: Caller, model: str) -> None:
    """n > 1, which the engine cannot abort by id: the last usage on the stream is what counts."""
    await caller.stream("/v1/chat/completions", caller.chat(model, LONG, n=2), caller.random.randint(3, 20))


async def leave_choices_unstreamed(caller: Caller, model: str) -> None:
    await caller.leave_unstreamed("/v1/chat/completions", caller.chat(model, LONG, n=2), 0.3)


async def refused(caller: Caller, model: str) -> None:
    bodies = [
        (caller.chat(model, 4, lora_path="x"), 400),
        (caller.chat(model, 4, temperature=-1), 400),
        (caller.chat("public/none", 4), 404),
        ({"model": model, "messages": "text"}, 400),
        # Longer than any context: only the engine can tell, so it is the engine that refuses.
        ({"model": model, "messages": [{"role": "user", "content": "word " * 80_000}], "max_tokens": 4}, 400),
    ]
    await caller.expect_refusal("/v1/chat/completions", *caller.random.choice(bodies))


MIX: list[tuple[Kind, int]] = [
    (chat, 30),
    (chat_stream, 30),
    (several_prompts, 8),
    (several_choices, 8),
    (leave_stream, 6),
    (leave_prompts, 3),
    (leave_unstreamed, 4),
    (leave_choices, 3),
    (leave_choices_unstreamed, 2),
    (refused, 6),
]


async def play(caller: Caller, models: list[str], requests: int, at_once: int) -> None:
    """Send `requests` of the mix, `at_once` at a time, to models drawn from `models`."""
    gate = asyncio.Semaphore(at_once)
    kinds, weights = zip(*MIX, strict=True)

    async def one() -> None:
        async with gate:
            kind: Kind = caller.random.choices(kinds, weights)[0]
            try:
                await kind(caller, caller.random.choice(models))
            except httpx.HTTPError:
                caller.failed += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(requests):
            group.create_task(one())
    await caller.client.aclose()
