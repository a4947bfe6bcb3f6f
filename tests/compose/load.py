"""Customers' requests by OpenAI's own client, until they are told to stop, and what each client saw."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from tests.faults.load import Sent

PAUSE_AFTER_FAILURE_S = 0.5
ANSWER_WITHIN_S = 60.0
TOKENS_MAX = 120
LONG_TOKENS = (3000, 6000)
"""10 to 20 s of streaming, at the pace that engines.env sets; not all alike, or all would end at one moment."""


class OfficialLoad:
    """`at_once` clients of one customer, one request after the other, half of them streamed.

    Nothing is tried again, so each call is one request. `sent` holds them all, answered or not.
    """

    def __init__(self, url: str, key: str, account: str, models: list[str], *, seed: int, at_once: int = 6) -> None:
        self.account = account
        self.sent: list[Sent] = []
        self._url, self._key, self._models = url, key, models
        self._random = random.Random(seed)
        self._at_once = at_once
        self._stop = threading.Event()
        self._long = threading.Event()
        self._streaming = 0

    def answered(self) -> int:
        """Requests answered in full so far."""
        return sum(sent.whole and sent.status == 200 for sent in list(self.sent))

    def seen(self) -> Counter[str]:
        """How many requests ended how."""
        return Counter(
            "no answer" if sent.status is None else f"{sent.status}" + ("" if sent.whole else " broken off")
            for sent in list(self.sent)
        )

    def streaming(self) -> int:
        """Long streams that have begun to answer and are not at their end."""
        return self._streaming

    @contextmanager
    def long_streams(self) -> Iterator[None]:
        """Meanwhile each client sends one long stream after the other."""
        self._long.set()
        try:
            yield
        finally:
            self._long.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load runs in a thread of its own; what was sent last is waited for. Raises what broke the load itself."""
        broken: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._run())
            except BaseException as error:  # carried to the thread that waits
                broken.append(error)

        thread = threading.Thread(target=run, name="load", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if broken:
            raise broken[0]

    async def _run(self) -> None:
        async with AsyncOpenAI(
            base_url=f"{self._url}/v1", api_key=self._key, max_retries=0, timeout=ANSWER_WITHIN_S
        ) as client:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._one_after_the_other(client))

    async def _one_after_the_other(self, client: AsyncOpenAI) -> None:
        while not self._stop.is_set():
            sent = Sent(f"load-{self._random.getrandbits(64):016x}", self.account, self._random.choice(self._models))
            self.sent.append(sent)
            try:
                if self._long.is_set():
                    await self._streamed(client, sent, self._random.randint(*LONG_TOKENS))
                elif self._random.random() < 0.5:
                    await self._streamed(client, sent)
                else:
                    await self._whole(client, sent)
            except APIStatusError as refused:
                sent.status, sent.whole = refused.status_code, True
                sent.id = refused.response.headers.get("x-request-id")
            except APIConnectionError as error:
                _failed(sent, error)
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            except Exception as error:
                # A stream that broke off: the client passes on whatever its transport raised.
                if not type(error).__module__.startswith(("httpx", "openai")):
                    raise
                _failed(sent, error)

    async def _whole(self, client: AsyncOpenAI, sent: Sent) -> None:
        answer = await client.chat.completions.with_raw_response.create(
            model=sent.model,
            max_tokens=self._random.randint(1, TOKENS_MAX),
            messages=[{"role": "user", "content": "word " * self._random.randint(1, 30)}],
            extra_headers={"x-request-id": sent.client_id},
        )
        sent.status, sent.id = answer.status_code, answer.headers.get("x-request-id")
        usage = answer.parse().usage
        assert usage is not None
        sent.usage, sent.whole = (usage.prompt_tokens, usage.completion_tokens), True

    async def _streamed(self, client: AsyncOpenAI, sent: Sent, exactly_tokens: int | None = None) -> None:
        answer = await client.chat.completions.with_raw_response.create(
            model=sent.model,
            max_tokens=exactly_tokens or self._random.randint(1, TOKENS_MAX),
            messages=[{"role": "user", "content": "word " * self._random.randint(1, 30)}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-id": sent.client_id},
            extra_body={"ignore_eos": True} if exactly_tokens else None,
        )
        sent.status, sent.id = answer.status_code, answer.headers.get("x-request-id")
        usage, begun = None, 0
        try:
            async for chunk in answer.parse():
                usage = chunk.usage or usage
                if exactly_tokens and not begun:
                    begun = 1
                    self._streaming += begun
        finally:
            self._streaming -= begun
        # Only now: what a stream tells that breaks off is not recorded.
        assert usage is not None
        sent.usage, sent.whole = (usage.prompt_tokens, usage.completion_tokens), True


def _failed(sent: Sent, error: Exception) -> None:
    """The transport's own error says whose doing it was; OpenAI's client wraps some of them."""
    cause = error.__cause__
    sent.failed(cause if isinstance(error, APIConnectionError) and isinstance(cause, Exception) else error)
