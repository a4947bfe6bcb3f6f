"""From the answer's last byte to a queryable charge: a whole platform, one request at a time, then under load."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks import load
from tests.servers.platform import Platform, running_platform

SHARED = "public/deepseek-r1"
SAMPLES = 60
LOAD_CONNECTIONS = 4
LOAD_REQUESTS = 6_000
POLL_S = 0.01
DEADLINE_S = 30.0


async def measure() -> dict[str, float]:
    """Milliseconds, p50 and p99 of `SAMPLES` requests, idle and under load."""
    with tempfile.TemporaryDirectory() as folder, running_platform(Path(folder)) as platform:
        account = await asyncio.to_thread(platform.new_account, "bench")
        key = await asyncio.to_thread(platform.new_key, account)
        idle = await _delays(platform, account, key)
        body = b'{"model":"public/deepseek-r1","max_tokens":8,"messages":[{"role":"user","content":"x"}]}'
        target = load.post("127.0.0.1", platform.ports["gateway"], "/v1/chat/completions", body, key)
        burden = asyncio.create_task(load.run(target, LOAD_CONNECTIONS, LOAD_REQUESTS))
        loaded = await _delays(platform, account, key)
        await burden
    return {
        "idle_p50_ms": statistics.median(idle),
        "idle_p99_ms": _p99(idle),
        "loaded_p50_ms": statistics.median(loaded),
        "loaded_p99_ms": _p99(loaded),
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.99 * len(values)) - 1)]


async def _delays(platform: Platform, account: str, key: str) -> list[float]:
    token = platform.operator_token
    delays = []
    async with httpx.AsyncClient(timeout=30) as client:
        for _ in range(SAMPLES):
            body = {"model": SHARED, "max_tokens": 8, "messages": [{"role": "user", "content": "x"}]}
            headers = {"Authorization": f"Bearer {key}"}
            answer = await client.post(platform.url("gateway") + "/v1/chat/completions", json=body, headers=headers)
            answered = time.monotonic()
            request_id = answer.raise_for_status().json()["id"]
            while not await _has_charge(client, platform, token, account, request_id):
                if time.monotonic() - answered > DEADLINE_S:
                    raise RuntimeError(f"no charge for {request_id} after {DEADLINE_S:.0f} s")
                await asyncio.sleep(POLL_S)
            delays.append((time.monotonic() - answered) * 1000)
    return delays


async def _has_charge(client: httpx.AsyncClient, platform: Platform, token: str, account: str, request: str) -> bool:
    answer = await client.get(
        platform.url("billing") + "/v1/charges",
        params={"account": account, "source": request},
        headers={"Authorization": f"Bearer {token}"},
    )
    page: dict[str, Any] = answer.raise_for_status().json()
    return bool(page["data"])
