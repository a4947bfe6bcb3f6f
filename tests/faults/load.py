"""Steady mixed load that survives harm to the platform, and what its clients saw of every request."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.integration.whole_platform.traffic import MIX, Caller
from tests.servers.platform import Platform

SHARED = "public/deepseek-r1"
REGION, MODEL = "sh-02", "qwen2.5-7b-instruct"
ANSWER_WITHIN_S = 60.0
PAUSE_S = 0.05
PAUSE_AFTER_FAILURE_S = 0.3


@dataclass
class Sent:
    """One request as its client saw it.

    `client_id` is the client's own id, which the platform notes with the request's usage. `id` is the platform's, as
    the answer's head stated it; None: no head came, so the platform may have taken the request or not. `whole` says
    that the answer came to its end, `usage` holds its (prompt, completion) tokens where the answer stated them.

    `left` and `timed_out` are the client's own doing: it went away, or waited no longer. `broke` names the error of a
    connection that ended from the other side, as by the death of a gateway; then the client has stayed.
    """

    client_id: str
    account: str
    model: str
    id: str | None = None
    status: int | None = None
    whole: bool = False
    left: bool = False
    timed_out: bool = False
    broke: str | None = None
    usage: tuple[int, int] | None = None

    def failed(self, error: Exception) -> None:
        """Note why no whole answer came."""
        if isinstance(error, httpx.TimeoutException):
            self.timed_out = True
        else:
            self.broke = type(error).__name__


@dataclass(frozen=True)
class Customer:
    """An account with a key; `services` are its own, `models` what it calls (the more often named, the more often)."""

    account: str
    key: str = field(repr=False)
    services: tuple[str, ...]
    deleted: dict[str, datetime] = field(default_factory=dict, compare=False)
    """By service: when its deletion had been accepted at the latest. Nothing of it may be billed from then on."""

    @property
    def models(self) -> list[str]:
        return [SHARED, SHARED, *(f"{self.account}/{name}" for name in self.services)]


def new_customers(
    platform: Platform, name: str, count: int = 1, services: int = 1, replicas: int = 1
) -> list[Customer]:
    """Customers with an account, a key and own services that are ready."""
    customers = []
    for number in range(count):
        account = platform.new_account(f"{name}-{number}")
        own = tuple(f"own{index}" for index in range(services))
        for service in own:
            words = ("--model", MODEL, "--region", REGION, "--replicas", str(replicas), "--account", account)
            platform.hydra("service", "deploy", service, *words)
        customers.append(Customer(account, platform.new_key(account), own))
    for customer in customers:
        for service in customer.services:
            platform.await_ready(service, customer.account, replicas)
    return customers


def end_services(platform: Platform, customers: list[Customer]) -> None:
    """Delete the customers' own services, so that their bills come to rest."""
    for customer in customers:
        for service in customer.services:
            platform.hydra("service", "delete", service, "--confirm", service, "--account", customer.account)
            customer.deleted[service] = datetime.now(UTC)


class NotingCaller(Caller):
    """A customer's client that notes every request and takes any answer, or none, as it comes."""

    def note(self, customer: Customer, model: str, notes: list[Sent]) -> None:
        """From here on requests are of this customer and for this model."""
        self._account, self._model, self._notes = customer.account, model, notes

    @contextmanager
    def _sending(self) -> Iterator[tuple[Sent, dict[str, str]]]:
        """A request to be sent with these headers; why it got no whole answer is noted and raised on."""
        sent = Sent(f"load-{self.random.getrandbits(64):016x}", self._account, self._model)
        self._notes.append(sent)
        try:
            yield sent, {"x-request-id": sent.client_id}
        except (httpx.HTTPError, OSError) as error:
            sent.failed(error)
            raise

    async def complete(self, path: str, body: dict[str, Any]) -> None:
        with self._sending() as (sent, headers):
            answer = await self.client.post(path, json=body, headers=headers)
            _note_whole(sent, answer)
        if answer.status_code == 200:
            usage = answer.json()["usage"]
            sent.usage = (usage["prompt_tokens"], usage["completion_tokens"])

    async def stream(self, path: str, body: dict[str, Any], leave_after: int | None = None) -> None:
        asked = body | {"stream": True}
        lines = 0
        with self._sending() as (sent, headers):
            async with self.client.stream("POST", path, json=asked, headers=headers) as answer:
                _note_head(sent, answer)
                if answer.status_code != 200:
                    await answer.aread()
                    sent.whole = True
                    return
                async for line in answer.aiter_lines():
                    lines += bool(line)
                    if leave_after is not None and lines >= leave_after:
                        sent.left = True
                        return
                    if line == "data: [DONE]":
                        sent.whole = True
                        return

    async def leave_unstreamed(self, path: str, body: dict[str, Any], after_s: float) -> None:
        host, port = self.client.base_url.host, self.client.base_url.port
        content = json.dumps(body).encode()
        with self._sending() as (sent, headers):
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.key}\r\n"
            head += f"X-Request-Id: {headers['x-request-id']}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            _, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(head.encode() + content)
                await writer.drain()
                sent.left = True
                await asyncio.sleep(after_s)
            finally:
                writer.close()

    async def expect_refusal(self, path: str, body: dict[str, Any], status: int) -> None:
        # In harm's way it may be refused for another reason too, but never served.
        with self._sending() as (sent, headers):
            answer = await self.client.post(path, json=body, headers=headers)
            _note_whole(sent, answer)
        assert answer.status_code in (status, 502, 503), (answer.status_code, answer.text)


def _note_whole(sent: Sent, answer: httpx.Response) -> None:
    _note_head(sent, answer)
    sent.whole = True


def _note_head(sent: Sent, answer: httpx.Response) -> None:
    sent.status = answer.status_code
    sent.id = answer.headers.get("x-request-id")


class Load:
    """`at_once` clients of each customer, one request after the other. `sent` holds every request, answered or not.

    `gateways` are the addresses that clients choose from, the platform's own unless given.
    """

    def __init__(
        self,
        platform: Platform,
        customers: list[Customer],
        seed: int,
        *,
        at_once: int = 6,
        pause_s: float = PAUSE_S,
        gateways: tuple[str, ...] = (),
    ) -> None:
        self.customers = customers
        self.sent: list[Sent] = []
        self._gateways = gateways or (platform.url("gateway"),)
        self._random = random.Random(seed)
        self._at_once = at_once
        self._pause_s = pause_s
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load runs in a thread of its own; what was sent last is waited for. Raises what broke the load itself."""
        broken: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._run())
            except BaseException as error:  # carried to the thread that waits
                broken.append(error)

        self._stop.clear()
        thread = threading.Thread(target=run, name="load", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if broken:
            raise broken[0]

    def seen(self) -> Counter[str]:
        """How many requests ended how, as the clients saw it."""
        return Counter(
            "no answer" if sent.status is None else f"{sent.status}" + ("" if sent.whole else " broken off")
            for sent in list(self.sent)
            if not sent.left
        )

    def answered(self) -> int:
        """Requests answered in full so far."""
        return sum(sent.whole and sent.status == 200 for sent in list(self.sent))

    def broken_off(self) -> int:
        """Requests that the platform took and whose connections then ended from its side."""
        return sum(sent.id is not None and sent.broke is not None for sent in list(self.sent))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for customer in self.customers:
                for number in range(self._at_once):
                    group.create_task(self._client(customer, number))

    async def _client(self, customer: Customer, number: int) -> None:
        kinds, weights = zip(*MIX, strict=True)
        chance = random.Random(self._random.getrandbits(64))
        caller = NotingCaller(self._gateways[number % len(self._gateways)], customer.key, chance)
        caller.client.timeout = httpx.Timeout(ANSWER_WITHIN_S)
        async with caller.client:
            while not self._stop.is_set():
                model = chance.choice(customer.models)
                caller.note(customer, model, self.sent)
                try:
                    await chance.choices(kinds, weights)[0](caller, model)
                    await asyncio.sleep(self._pause_s)
                except (httpx.HTTPError, OSError):
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
