"""The gateway's CPU per request beside nginx as a plain proxy, in front of the same engine, in turn in one run."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import load
from benchmarks.cpu import cpu_seconds
from benchmarks.nginx import running_nginx
from tests.servers.gateway import GatewayPlatform
from tests.servers.kafka import running_kafka
from tests.servers.ports import free_port

ROUNDS = 5
CONNECTIONS = 16
REQUESTS = 10_000
STREAMS = 64
STREAM_REQUESTS = 1_024
STREAM_CHUNKS = 50
STREAM_TOKENS_PER_SECOND = 100
"""Slow enough that every chunk arrives by itself, as from an engine; unpaced, many would arrive in one read."""


def _body(model: str, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": "Why does an invoice have to be exact?"}]
    fields: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": STREAM_CHUNKS if stream else 8}
    return msgspec.json.encode(fields | ({"stream": True} if stream else {}))


async def measure() -> dict[str, float]:
    """CPU milliseconds per request of both (medians of rounds), and the median of the rounds' ratios."""
    with tempfile.TemporaryDirectory() as folder, running_kafka(Path(folder) / "kafka") as kafka:
        platform = GatewayPlatform(Path(folder) / "home", kafka.node.bootstrap)
        await platform.prepare()
        try:
            engine = await platform.start_engine("--tokens-per-second", "1000000")
            customer = await platform.customer()
            deployment = await platform.service(engine)
            gateway = await platform.start_gateway()
            await platform.in_force(customer, deployment.access_path)
            port = free_port()
            with running_nginx(Path(folder) / "nginx", port, engine.port, engine.key) as nginx:
                pids = {"gateway": gateway.process.pid, "nginx": nginx}
                ports = {"gateway": platform.port, "nginx": port}
                plain = await _compare(pids, ports, customer.key, deployment.access_path, stream=False)
                await asyncio.to_thread(engine.order, tokens_per_second=STREAM_TOKENS_PER_SECOND)
                streams = await _compare(pids, ports, customer.key, deployment.access_path, stream=True)
        finally:
            await platform.close()
    return plain | {f"stream_{name}": value for name, value in streams.items()}


async def _compare(
    pids: dict[str, int], ports: dict[str, int], key: str, model: str, *, stream: bool
) -> dict[str, float]:
    connections, requests = (STREAMS, STREAM_REQUESTS) if stream else (CONNECTIONS, REQUESTS)
    costs: dict[str, list[float]] = {name: [] for name in pids}
    body = _body(model, stream=stream)
    for turn in range(ROUNDS + 1):
        for name, pid in pids.items():
            target = load.post("127.0.0.1", ports[name], "/v1/chat/completions", body, key)
            before = cpu_seconds(pid)
            await load.run(target, connections, requests)
            if turn:  # the first turn warms both up
                costs[name].append((cpu_seconds(pid) - before) * 1000 / requests)
    ratios = [ours / peer for ours, peer in zip(costs["gateway"], costs["nginx"], strict=True)]
    return {
        "gateway_cpu_ms": statistics.median(costs["gateway"]),
        "nginx_cpu_ms": statistics.median(costs["nginx"]),
        "ratio": statistics.median(ratios),
    }
