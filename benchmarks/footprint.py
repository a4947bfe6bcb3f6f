"""What a whole platform and each of its processes take: seconds until ready, memory at rest and under load."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks import load
from runner.linux_processes import snapshot
from runner.status import PlatformStatus
from tests.servers.platform import Platform

SETTLE_S = 15.0
LOOK_EVERY_S = 0.05
LOAD_CONNECTIONS = 8
LOAD_REQUESTS = 20_000
MIB = 1 << 20
BODY = b'{"model":"public/deepseek-r1","max_tokens":8,"messages":[{"role":"user","content":"x"}]}'


async def measure() -> dict[str, float]:
    """By process: `<name>_start_s` from its spawn to ready, `<name>_rest_mib`, `<name>_load_mib` (the highest).

    `platform` is all of it, its supervisor and the engines included; it is ready when every wanted instance is, as
    `hydra status` says it, from the moment at which `hydra up` was typed.
    """
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform(Path(folder))
        begun = time.monotonic()
        starting = asyncio.create_task(asyncio.to_thread(platform.start))
        try:
            figures = await _starts(platform, starting)
            await starting
            figures["platform_start_s"] = time.monotonic() - begun
            await asyncio.sleep(SETTLE_S)
            status = _status(platform)
            assert status is not None
            figures |= {f"{name}_rest_mib": mib for name, mib in resident_mib(status).items()}
            figures |= await _under_load(platform, status)
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


async def _under_load(platform: Platform, status: PlatformStatus) -> dict[str, float]:
    account = await asyncio.to_thread(platform.new_account, "bench")
    key = await asyncio.to_thread(platform.new_key, account)
    target = load.post("127.0.0.1", platform.ports["gateway"], "/v1/chat/completions", BODY, key)
    burden = asyncio.create_task(load.run(target, LOAD_CONNECTIONS, LOAD_REQUESTS))
    highest = resident_mib(status)
    while not burden.done():
        highest = {name: max(highest[name], mib) for name, mib in resident_mib(status).items()}
        await asyncio.sleep(0.5)
    await burden
    return {f"{name}_load_mib": mib for name, mib in highest.items()}


def _status(platform: Platform) -> PlatformStatus | None:
    try:
        return msgspec.json.decode((platform.home / "run" / "platform.json").read_bytes(), type=PlatformStatus)
    except (OSError, msgspec.DecodeError):
        return None


def resident_mib(status: PlatformStatus) -> dict[str, float]:
    """Resident memory by process, children left out; of the supervisor, of the engines and of all together.

    Memory that several processes share counts once for each, so all together is rather too much than too little.
    """
    table = snapshot()
    found = {
        process.name: table.resident_bytes.get(process.pid, 0) / MIB
        for process in status.processes
        if process.pid is not None
    }
    (worker,) = (process.pid for process in status.processes if process.name == "worker")
    assert worker is not None
    return found | {
        "supervisor": table.resident_bytes.get(status.pid, 0) / MIB,
        "engines": table.resident_with_children(worker) / MIB - found["worker"],
        "platform": table.resident_with_children(status.pid) / MIB,
    }
