"""The gateway beside nginx as a plain proxy and LiteLLM's proxy: one process each on the same core, in turn in one run.

In front of one upstream that costs almost nothing; upstream, load and Kafka are on the other cores. The gateway checks
keys, meters, writes its spool (`write`, and a second one by `fdatasync`) and publishes to a real Kafka meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import litellm_proxy, load
from benchmarks.cpu import cores_apart, cpu_seconds, pin
from benchmarks.nginx import running_nginx
from schemas.deployments import Endpoint
from tests.servers.child_process import end_with_parent
from tests.servers.gateway import Customer, GatewayPlatform
from tests.servers.kafka import running_kafka
from tests.servers.ports import free_port

ROUNDS = 5
PATH = "/v1/chat/completions"
MODEL = "public/bench"
STREAM_CHUNKS = 50
SLOW_SHARE = 20
"""LiteLLM's proxy gets one request where the others get this many: it would take most of the time."""
LOAD_WITHIN_S = 120.0


@dataclass(frozen=True)
class Cell:
    """One load. `pace_ms` is the time from chunk to chunk of a stream; None: not streamed."""

    name: str
    connections: int
    requests: int
    pace_ms: int | None = None

    def body(self) -> bytes:
        messages = [{"role": "user", "content": "Why does an invoice have to be exact?"}]
        fields: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": STREAM_CHUNKS}
        return msgspec.json.encode(fields | ({} if self.pace_ms is None else {"stream": True, "seed": self.pace_ms}))


CELLS = (
    Cell("c1", 1, 1_500),
    Cell("c16", 16, 6_000),
    Cell("c64", 64, 6_000),
    Cell("streams_20ms", 64, 128, pace_ms=20),
    Cell("streams_3ms", 64, 256, pace_ms=3),
)


@dataclass
class Subject:
    """A server that is measured; the upstream itself, asked directly, has no pid that counts."""

    name: str
    port: int
    key: str
    pid: int | None
    slow: bool = False
    found: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Figures of each counted round, by cell."""


async def measure() -> dict[str, float]:
    """Medians over the rounds: CPU per request or stream, rates, times added to the upstream's own, and ratios."""
    await asyncio.to_thread(litellm_proxy.set_up)
    async with _subjects() as subjects:
        for turn in range(ROUNDS + 1):
            for cell in CELLS:
                for subject in subjects:
                    print(f"  round {turn} of {ROUNDS}: {cell.name:12} {subject.name:18}", end="\r", flush=True)
                    figures = await _loaded(subject, cell)
                    if turn:  # the first round warms all up
                        subject.found.setdefault(cell.name, []).append(figures)
    print(" " * 60, end="\r", flush=True)
    return medians_and_ratios(subjects)


async def _loaded(subject: Subject, cell: Cell) -> dict[str, float]:
    requests = max(cell.connections, cell.requests // (SLOW_SHARE if subject.slow else 1))
    target = load.post("127.0.0.1", subject.port, PATH, cell.body(), subject.key)
    before = cpu_seconds(subject.pid) if subject.pid is not None else 0.0
    try:
        async with asyncio.timeout(LOAD_WITHIN_S):
            times = await load.run(target, cell.connections, requests)
    except TimeoutError:
        raise RuntimeError(f"{subject.name} did not answer {requests} requests in {LOAD_WITHIN_S:.0f} s") from None
    figures = {"per_s": requests / times.took_s}
    if subject.pid is not None:
        figures["cpu_ms"] = (cpu_seconds(subject.pid) - before) * 1000 / requests
    kinds = {"": times.whole} if cell.pace_ms is None else {"first_": times.first, "": times.whole}
    for kind, seconds in kinds.items():
        figures[f"{kind}p50_ms"] = load.percentile(seconds, 0.5) * 1000
        figures[f"{kind}p99_ms"] = load.percentile(seconds, 0.99) * 1000
    return figures


def medians_and_ratios(subjects: list[Subject]) -> dict[str, float]:
    """By cell: each subject's medians over the rounds, times beyond `direct`'s, and ratios of the gateway to a peer.

    Ratios are taken round by round, as the machine's speed may drift. That of CPU, turned over, is also that of the
    requests per second of a saturated core; that of rates is what was seen, where load and upstream share the rest.
    """
    medians = {
        subject.name: {
            cell: {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
            for cell, rounds in subject.found.items()
        }
        for subject in subjects
    }
    direct = medians.pop("direct")
    result: dict[str, float] = {}
    for cell in CELLS:
        for subject, of_cell in medians.items():
            for name, value in of_cell[cell.name].items():
                if name.endswith(("p50_ms", "p99_ms")):
                    result[f"{cell.name}_{subject}_added_{name}"] = value - direct[cell.name][name]
                else:
                    result[f"{cell.name}_{subject}_{name}"] = value
        found = {subject.name: subject.found[cell.name] for subject in subjects}
        for peer in ("nginx", "litellm"):
            for ratio, figure in (("cpu", "cpu_ms"), ("rate", "per_s")):
                pairs = zip(found["gateway"], found[peer], strict=True)
                value = statistics.median(ours[figure] / theirs[figure] for ours, theirs in pairs)
                result[f"{cell.name}_{ratio}_ratio_gateway_to_{peer}"] = value
    return result


@contextmanager
def _running_upstream() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    process = subprocess.Popen(command, preexec_fn=end_with_parent)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def _subjects() -> AsyncIterator[list[Subject]]:
    """All of them running, each on the measured core, everything else on the others."""
    measured, others = cores_apart()
    async with AsyncExitStack() as stack:
        stack.callback(pin, os.getpid(), os.sched_getaffinity(0))
        pin(os.getpid(), others)  # and with it all that is started from here on
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(_running_upstream())
        kafka = stack.enter_context(running_kafka(folder / "kafka"))
        ports = {name: free_port() for name in ("nginx", "litellm")}
        nginx = stack.enter_context(running_nginx(folder / "nginx", ports["nginx"], upstream, "none"))
        print("  starting LiteLLM's proxy ...", end="\r", flush=True)
        proxy = await asyncio.to_thread(
            stack.enter_context,
            litellm_proxy.running_litellm_proxy(folder / "litellm", ports["litellm"], upstream, MODEL, "sk-bench"),
        )
        subjects = [
            Subject("direct", upstream, "none", None),
            Subject("nginx", ports["nginx"], "none", nginx),
            Subject("litellm", ports["litellm"], "sk-bench", proxy, slow=True),
        ]
        customer: Customer | None = None
        for name, sync in (("gateway", "write"), ("gateway_fdatasync", "fdatasync")):
            platform = GatewayPlatform(folder / "home", kafka.node.bootstrap)
            stack.push_async_callback(platform.close)
            await platform.prepare()
            if customer is None:
                customer = await platform.customer()
                endpoint = Endpoint(instance="i-000000000001", epoch=1, address=f"127.0.0.1:{upstream}")
                await platform.service(path=MODEL, endpoints=(endpoint,), instances_wanted=1, ever_ready=True)
            gateway = await platform.start_gateway(spool_sync=sync)
            await platform.in_force(customer, MODEL)
            subjects.append(Subject(name, platform.port, customer.key, gateway.process.pid))
        for subject in subjects:
            if subject.pid is not None:
                pin(subject.pid, measured)
        yield subjects
