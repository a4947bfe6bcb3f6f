"""Gateways started with Kafka away: by a fresh snapshot they serve, without one that counts they say 503 and wait."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from domain import ids
from runner.kafka import KafkaServer
from tests.servers.child_process import end_with_parent
from tests.servers.gateway import Customer, GatewayPlatform
from tests.servers.kafka import new_kafka

DEADLINE_S = 120
STATE_AGE_MAX_S = 3_600.0
MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def make_stale(snapshot: Path) -> None:
    content = json.loads(snapshot.read_bytes())
    content["confirmed"] -= 2 * STATE_AGE_MAX_S
    snapshot.write_text(json.dumps(content))


def tear(snapshot: Path) -> None:
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[: len(content) // 2])


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "stale": (make_stale, "stale"),
    "torn": (tear, "starting"),
    "missing": (Path.unlink, "starting"),
}
"""By name: what is done to the snapshot, and what the gateway then says that it is."""


async def health(platform: GatewayPlatform) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(timeout=30) as client:
        try:
            answer = await client.get(f"{platform.url}/health/ready")
        except httpx.TransportError:
            return 0, {"status": "does not answer"}
        return answer.status_code, answer.json()


async def until_it_says(platform: GatewayPlatform, status: int, word: str) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        code, seen = await health(platform)
        if (code, seen["status"]) == (status, word):
            return seen
        assert time.monotonic() < deadline, f"{platform.home.name}: {code} {seen}, not {status} {word}"
        await asyncio.sleep(0.1)


async def ask(platform: GatewayPlatform, key: str, model: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60, headers={"Authorization": f"Bearer {key}"}) as client:
        body = {"model": model, "messages": MESSAGES, "max_tokens": 5}
        return await client.post(f"{platform.url}/v1/chat/completions", json=body)


def copy_of(platform: GatewayPlatform, home: Path) -> GatewayPlatform:
    """The same platform's state in a folder of its own, for a gateway of its own."""
    shutil.copytree(platform.home, home, ignore=shutil.ignore_patterns("kafka", "spools", "*.log", "*.ledger"))
    return GatewayPlatform(home, platform.bootstrap)


@asynccontextmanager
async def platforms(
    folder: Path,
) -> AsyncIterator[tuple[GatewayPlatform, dict[str, GatewayPlatform], KafkaServer, Customer, str]]:
    """A platform with a served model whose gateway and Kafka are down, and copies of it with spoilt snapshots."""
    kafka = new_kafka(folder / "kafka")
    kafka.start(before_exec=end_with_parent)
    made = GatewayPlatform(folder / "fresh", kafka.node.bootstrap)
    copies: dict[str, GatewayPlatform] = {}
    try:
        await made.prepare()
        engine = await made.start_engine()
        customer = await made.customer()
        model = (await made.service(engine)).access_path
        first = await made.start_gateway()
        await made.in_force(customer, model)
        snapshot = made.home / "gateway" / "snapshot.json"
        deadline = time.monotonic() + DEADLINE_S
        while not snapshot.exists() or model not in snapshot.read_text() or customer.key_id not in snapshot.read_text():
            assert time.monotonic() < deadline, "no snapshot of the model and the key"
            await asyncio.sleep(0.1)
        assert first.terminate() == 0
        kafka.kill()
        for name, (spoil, _) in SPOILT.items():
            copies[name] = copy_of(made, folder / name)
            spoil(copies[name].home / "gateway" / "snapshot.json")
        yield made, copies, kafka, customer, model
    finally:
        for platform in (made, *copies.values()):
            await platform.close()
        kafka.kill()


async def test_a_start_without_kafka_and_what_happens_when_it_comes(tmp_path: Path) -> None:
    async with platforms(tmp_path) as (fresh, copies, kafka, customer, model):
        age = {"state_age_max_s": str(STATE_AGE_MAX_S)}
        for platform in (fresh, *copies.values()):
            platform.spawn_gateway(**age)

        said = await until_it_says(fresh, 200, "degraded")
        assert "Kafka is away" in said["reason"]
        served = await ask(fresh, customer.key, model)
        assert served.status_code == 200, served.text
        unknown = await ask(fresh, ids.api_key(secrets.token_bytes(32)), model)
        assert unknown.status_code == 401

        refused = 0
        for name, platform in copies.items():
            said = await until_it_says(platform, 503, SPOILT[name][1])
            assert said["reason"]
            for key in (customer.key, ids.api_key(os.urandom(32))):
                answer = await ask(platform, key, model)
                # Whose key it is cannot be told, so nobody hears that theirs is wrong.
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "state_too_old"), name
                refused += key == customer.key and SPOILT[name][1] == "stale"
            assert "Traceback" not in (platform.home / "gateway.log").read_text()

        kafka.start(before_exec=end_with_parent)
        for platform in (fresh, *copies.values()):
            await until_it_says(platform, 200, "ok")
            answer = await ask(platform, customer.key, model)
            assert answer.status_code == 200, answer.text
        usages = await fresh.usage(customer.account, 1 + 1 + len(copies) + refused)
        outcomes = [usage.outcome for usage in usages]
        assert (outcomes.count("completed"), outcomes.count("refused")) == (2 + len(copies), refused)
        assert served.headers["x-request-id"] in {usage.request_id for usage in usages}
