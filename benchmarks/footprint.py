"""What each process of a whole platform takes: seconds until it is ready, memory at rest and under load."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

import msgspec

from benchmarks import load
from runner.status import PlatformStatus
from tests.servers.platform import Platform

SETTLE_S = 15.0
LOOK_EVERY_S = 0.05
LOAD_CONNECTIONS = 8
LOAD_REQUESTS = 20_000
BODY = b'{"model":"public/deepseek-r1","max_tokens":8,"messages":[{"role":"user","content":"x"}]}'


async def measure() -> dict[str, float]:
    """By process: `<name>_start_s` from its spawn to ready, `<name>_rest_mib`, `<name>_load_mib` (the highest)."""
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform(Path(folder))
        starting = asyncio.create_task(asyncio.to_thread(platform.start))
        try:
            figures = await _starts(platform, starting)
            await starting
            await asyncio.sleep(SETTLE_S)
            status = _status(platform)
            assert status is not None
            pids = {process.name: process.pid for process in status.processes if process.pid is not None}
            figures |= {f"{name}_rest_mib": resident_mib(pid) for name, pid in pids.items()}
            figures |= await _under_load(platform, pids)
            return figures
        finally:
            await asyncio.gather(starting, return_exceptions=True)
            await asyncio.to_thread(platform.stop)


async def _starts(platform: Platform, starting: asyncio.Task[None]) -> dict[str, float]:
    """Seconds from each process's spawn to the moment at which the supervisor called it ready."""
    ready: dict[str, float] = {}
    while not starting.done():
        status = _status(platform)
        for process in status.processes if status is not None else ():
            if process.state == "ready" and process.uptime_s is not None:
                ready.setdefault(f"{process.name}_start_s", process.uptime_s)
        await asyncio.sleep(LOOK_EVERY_S)
    return ready


async def _under_load(platform: Platform, pids: dict[str, int]) -> dict[str, float]:
    account = await asyncio.to_thread(platform.new_account, "bench")
    key = await asyncio.to_thread(platform.new_key, account)
    target = load.post("127.0.0.1", platform.ports["gateway"], "/v1/chat/completions", BODY, key)
    burden = asyncio.create_task(load.run(target, LOAD_CONNECTIONS, LOAD_REQUESTS))
    highest = dict.fromkeys(pids, 0.0)
    while not burden.done():
        for name, pid in pids.items():
            highest[name] = max(highest[name], resident_mib(pid))
        await asyncio.sleep(0.5)
    await burden
    return {f"{name}_load_mib": mib for name, mib in highest.items()}


def _status(platform: Platform) -> PlatformStatus | None:
    try:
        return msgspec.json.decode((platform.home / "run" / "platform.json").read_bytes(), type=PlatformStatus)
    except (OSError, msgspec.DecodeError):
        return None


def resident_mib(pid: int) -> float:
    """What the process itself holds in memory; its children are not counted."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
