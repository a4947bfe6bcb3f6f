"""An engine process under the contract: how each of the two is started, and what the tests ask of it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from domain.catalogue import EngineSpec
from domain.engine_command import EngineAddress, SimulatedPace, sglang_cpu_command, simulated_command
from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
SGLANG_PYTHON = ROOT / ".tools" / "sglang" / "bin" / "python"
SGLANG_MODEL = ROOT / ".tools" / "sglang-model"
SGLANG_LAUNCHER = ROOT / "services" / "worker" / "sglang_cpu" / "launch.py"
KEY = "the-key-of-this-engine"
SERVED_NAME = "u-0123456789ab/served"
CONTEXT_LENGTH = 8192
# Slow enough that a test acts in the middle of an answer, quick enough that no test waits.
TOKENS_PER_SECOND = 300.0
READY_WITHIN_S = 400.0
DONE_WITHIN_S = 120.0

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "Name the months of the year, please."}]


@dataclass(frozen=True)
class RunningEngine:
    """One engine process that answers."""

    kind: str
    port: int
    process: "subprocess.Popen[bytes]"

    @asynccontextmanager
    async def client(self, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None)
        url = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=DONE_WITHIN_S, limits=limits) as client:
            yield client


@contextmanager
def running_engine(kind: str, log: Path, *options: str, cache_report: bool = True) -> Iterator[RunningEngine]:
    """Starts an engine and waits until it is ready; whatever it started ends with it."""
    port = free_port()
    at = EngineAddress(host="127.0.0.1", port=port, api_key=KEY, served_model_name=SERVED_NAME)
    if kind == "sglang":
        command = sglang_cpu_command(
            at, python=str(SGLANG_PYTHON), launcher=str(SGLANG_LAUNCHER), model=str(SGLANG_MODEL)
        )
    else:
        spec = EngineSpec(model_path="none", context_length=CONTEXT_LENGTH)
        command = simulated_command(spec, at, SimulatedPace(tokens_per_second=TOKENS_PER_SECOND), python=sys.executable)
    if not cache_report:
        command.remove("--enable-cache-report")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=output, stderr=output, preexec_fn=_own_group_that_ends_with_us
        )
    try:
        _wait_until_ready(process, port, log)
        yield RunningEngine(kind, port, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def _own_group_that_ends_with_us() -> None:
    os.setsid()
    end_with_parent()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, f"the engine ended: {log.read_text(errors='replace')[-3000:]}"
        time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s: {log.read_text(errors='replace')[-3000:]}")


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """An answer that must be 200, decoded."""
    answer = await client.post(path, json={"model": "any/name", **body})
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = answer.json()
    return decoded


@dataclass
class Stream:
    """A stream that was read to its end."""

    chunks: list[dict[str, Any]]
    done: bool

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]

    @property
    def finish_reasons(self) -> dict[int, str]:
        return {
            choice["index"]: choice["finish_reason"]
            for chunk in self.chunks
            for choice in chunk["choices"]
            if choice["finish_reason"]
        }

    def text(self, index: int = 0) -> str:
        pieces = []
        for chunk in self.chunks:
            for choice in chunk["choices"]:
                if choice["index"] == index:
                    pieces.append(choice["text"] if "text" in choice else choice["delta"].get("content") or "")
        return "".join(pieces)


def decoded_line(line: str) -> dict[str, Any] | None:
    """The chunk in a line of an event stream; None for what is none."""
    if not line.startswith("data: {"):
        return None
    chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return chunk


async def stream(client: httpx.AsyncClient, path: str, **body: Any) -> Stream:
    """Reads a stream to its end."""
    read = Stream([], False)
    async with client.stream("POST", path, json={"model": "any/name", "stream": True, **body}) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if (chunk := decoded_line(line)) is not None:
                read.chunks.append(chunk)
            read.done = read.done or line == "data: [DONE]"
    return read


async def running_requests(client: httpx.AsyncClient) -> int:
    """What the engine says that it runs just now."""
    running: int = (await client.get("/v1/loads")).json()["loads"][0]["num_running_reqs"]
    return running


async def waiting_requests(client: httpx.AsyncClient) -> int:
    """What the engine says that waits for room."""
    waiting: int = (await client.get("/v1/loads")).json()["loads"][0]["num_waiting_reqs"]
    return waiting


async def health(client: httpx.AsyncClient) -> int:
    """The status of the health check."""
    return (await client.get("/health")).status_code


async def until(ask: Callable[[httpx.AsyncClient], Awaitable[int]], client: httpx.AsyncClient, expected: int) -> None:
    """Asks again and again until the answer is the expected one."""
    deadline = time.monotonic() + DONE_WITHIN_S
    while (seen := await ask(client)) != expected:
        assert time.monotonic() < deadline, f"{seen} instead of {expected}"
        await asyncio.sleep(0.05)


async def until_running(client: httpx.AsyncClient, count: int) -> None:
    """Waits until exactly so many sequences run."""
    await until(running_requests, client, count)


async def counter(client: httpx.AsyncClient, name: str) -> float:
    """A counter of /metrics, summed over its labels; 0 while it has never counted."""
    text = (await client.get("/metrics")).text
    return sum(float(value) for value in re.findall(rf"^sglang:{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))


async def grown_counter(client: httpx.AsyncClient, name: str, before: float) -> float:
    """By how much a counter has grown, once it has: the real engine counts a request a moment after its end."""
    deadline = time.monotonic() + DONE_WITHIN_S
    while (grown := await counter(client, name) - before) <= 0 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return grown
