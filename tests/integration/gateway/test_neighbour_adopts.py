"""Two gateways over one root of spools: whoever dies, each request has exactly one usage event, by whoever finds it."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from schemas.usage import TokensUsed
from services.gateway.spool_files import Intent, parsed, payloads, segments
from tests.servers.gateway import Customer, Engine, GatewayPlatform, Process

SERVED_BEFORE_A_DEATH = 25
ROUNDS = 3
CLIENTS = 6


@dataclass
class Two:
    """Gateways `one` and `two` of one home; each has a port and, through all its lives, one name."""

    one: GatewayPlatform
    two: GatewayPlatform
    engine: Engine
    customer: Customer
    path: str
    processes: dict[str, Process] = field(default_factory=dict)

    def of(self, name: str) -> GatewayPlatform:
        return self.one if name == "one" else self.two

    async def start(self, name: str, **settings: str) -> None:
        self.processes[name] = await self.of(name).start_gateway(id=name, **settings)

    def spool(self, name: str) -> Path:
        return self.one.home / "gateway" / "spools" / name

    def metric(self, name: str, metric: str) -> float:
        text = httpx.get(f"{self.of(name).url}/metrics").text
        found = re.search(rf"^hydra_gateway_{metric}(?:_total)? (\S+)$", text, re.MULTILINE)
        assert found, f"no {metric} in {text}"
        return float(found[1])


@pytest_asyncio.fixture
async def two(tmp_path: Path, kafka: str) -> AsyncIterator[Two]:
    one, other = GatewayPlatform(tmp_path, kafka), GatewayPlatform(tmp_path, kafka)
    try:
        await one.prepare()
        engine = await one.start_engine("--tokens-per-second", "100")
        customer = await one.customer()
        service = await one.service(engine)
        yield Two(one, other, engine, customer, service.access_path)
    finally:
        await other.close()
        await one.close()


async def open_streams(two: Two, client: httpx.AsyncClient, name: str, count: int) -> list[asyncio.Task[str]]:
    """So many streams that have begun, read on until they break off; each task returns its request id."""
    begun = asyncio.Semaphore(0)

    async def read() -> str:
        body = {"model": two.path, "max_tokens": 5000, "stream": True, "messages": [{"role": "user", "content": "x"}]}
        id = ""
        try:
            async with client.stream("POST", f"{two.of(name).url}/v1/chat/completions", json=body) as answer:
                async for _ in answer.aiter_lines():
                    if not id:
                        id = answer.headers["x-request-id"]
                        begun.release()
        except httpx.HTTPError:
            pass
        return id

    tasks = [asyncio.create_task(read()) for _ in range(count)]
    for _ in range(count):
        await asyncio.wait_for(begun.acquire(), 60)
    return tasks


def client_of(customer: Customer) -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"authorization": f"Bearer {customer.key}"}, timeout=60)


def intents_of(folder: Path) -> set[str]:
    """Requests that a spool on disk knows to have been dispatched."""
    records = [parsed(payload) for path in segments(folder) for payload, _ in payloads(path.read_bytes())]
    return {record.request_id for record in records if isinstance(record, Intent)}


async def test_the_neighbour_adopts_at_once_and_counts_what_was_lost(two: Two) -> None:
    await two.start("one")
    await two.start("two")
    await two.two.in_force(two.customer, two.path)
    await two.one.in_force(two.customer, two.path)
    async with client_of(two.customer) as client:
        streams = await open_streams(two, client, "one", 4)
        two.processes["one"].kill()
        lost = set(await asyncio.gather(*streams))
    usages = await two.one.usage(two.customer.account, 4)
    assert {usage.request_id: usage.outcome for usage in usages} == dict.fromkeys(lost, "gateway_lost")
    assert {(usage.prompt_tokens, usage.completion_tokens, usage.gateway) for usage in usages} == {(None, None, "one")}
    await until_gone(two.spool("one"))
    assert two.metric("two", "usage_adopted") == two.metric("two", "usage_lost") == 4


async def test_one_that_starts_again_under_its_name_adopts_its_own(two: Two) -> None:
    # Nobody else may be quicker: the neighbour does not look.
    await two.start("one", adoption_interval_s="3600")
    await two.start("two", adoption_interval_s="3600")
    await two.one.in_force(two.customer, two.path)
    async with client_of(two.customer) as client:
        streams = await open_streams(two, client, "one", 3)
        two.processes["one"].kill()
        lost = set(await asyncio.gather(*streams))
    assert intents_of(two.spool("one")) == lost
    await two.start("one")
    usages = await two.one.usage(two.customer.account, 3)
    assert {usage.request_id: usage.outcome for usage in usages} == dict.fromkeys(lost, "gateway_lost")
    assert two.metric("one", "usage_lost") == 3 and two.metric("two", "usage_adopted") == 0


async def test_whoever_dies_when_every_request_has_one_usage_event(two: Two) -> None:
    """Both die in turn and together under load, each while the other or itself adopts."""
    for name in ("one", "two"):
        await two.start(name)
        await two.of(name).in_force(two.customer, two.path)
    done, answered = asyncio.Event(), Counter[str]()
    seen: list[tuple[str, bool]] = []
    async with client_of(two.customer) as client, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(_ask_on(two, client, number, done, seen, answered))
        for number in range(ROUNDS):
            victims = (("one",), ("two",), ("one", "two"))[number % 3]
            await _until_served(answered, victims)
            for name in victims:
                two.processes[name].kill()
            await asyncio.gather(*(two.start(name) for name in victims))
        await _until_served(answered, ("one", "two"))
        done.set()
    ledger = {line["rid"] for line in two.engine.finished()}
    known = {id for id, _ in seen} | ledger
    usages = await two.one.usage(two.customer.account, len(known), known=known)
    # More there may be than clients and engine know of: an intent was written, and the gateway died before dispatch.
    by_id = {usage.request_id: usage for usage in usages}
    assert {by_id[id].outcome for id, whole in seen if whole} == {"completed"}
    lost = [usage for usage in usages if usage.outcome == "gateway_lost"]
    assert lost and all(_is_free(usage) for usage in lost)


async def _ask_on(
    two: Two,
    client: httpx.AsyncClient,
    number: int,
    done: asyncio.Event,
    seen: list[tuple[str, bool]],
    answered: Counter[str],
) -> None:
    """Requests one after the other, to one gateway and the other; notes (id, whether answered in full)."""
    body: dict[str, Any] = {"model": two.path, "messages": [{"role": "user", "content": "Hello."}]}
    name = "one" if number % 2 else "two"
    while not done.is_set():
        name = "two" if name == "one" else "one"
        url = f"{two.of(name).url}/v1/chat/completions"
        try:
            answer = await client.post(url, json=body | {"max_tokens": 12})
            if answer.status_code == 200:
                assert answer.headers["x-request-id"] == json.loads(answer.content)["id"]
                seen.append((answer.headers["x-request-id"], True))
                answered[name] += 1
        except httpx.HTTPError:
            await asyncio.sleep(0.1)


async def _until_served(answered: Counter[str], names: tuple[str, ...]) -> None:
    async with asyncio.timeout(180):
        wanted = {name: answered[name] + SERVED_BEFORE_A_DEATH for name in names}
        while any(answered[name] < count for name, count in wanted.items()):
            await asyncio.sleep(0.05)


def _is_free(usage: TokensUsed) -> bool:
    return usage.prompt_tokens is None and usage.completion_tokens is None and usage.ended == usage.received


async def until_gone(folder: Path) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(folder.exists):
            await asyncio.sleep(0.1)
