"""A steady load for HYDRA_SOAK_MINUTES (30) on a whole platform: nothing that a process holds may grow.

Not collected by `make test`; `make e2e` runs it. The samples and a chart are left in HYDRA_SOAK_FOLDER (build/e2e).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import httpx

from tests.e2e.soak_samples import Sampler, report, write_csv
from tests.integration.whole_platform.traffic import Caller, chat, chat_stream, leave_stream, several_prompts
from tests.servers.platform import Platform, running_platform, wait_until

MINUTES = float(os.environ.get("HYDRA_SOAK_MINUTES", "30"))
FOLDER = Path(os.environ.get("HYDRA_SOAK_FOLDER", "build/e2e")).absolute()
SAMPLE_EVERY_S = min(10.0, MINUTES * 60 / 30)
SCALE_EVERY_S = min(120.0, MINUTES * 60 / 6)
REQUESTS_PER_S = 20
AT_ONCE_MAX = 64
SHARED = "public/deepseek-r1"
OWN = "soaked"
SEED = 7
SEGMENT_BYTES = str(1 << 20)
"""What is published leaves the disk by the segment: with small ones the spool's size is nearly what waits."""


async def load(callers: dict[str, Caller], until: float) -> None:
    """So many requests a second of each kind, whether or not those before have ended."""
    chance = random.Random(SEED)
    kinds = (chat, chat, chat, chat_stream, chat_stream, several_prompts, leave_stream)
    room = asyncio.Semaphore(AT_ONCE_MAX)
    loop = asyncio.get_running_loop()
    started = loop.time()
    number = 0

    async def one(caller: Caller, model: str, kind: object) -> None:
        async with room:
            await kind(caller, model)  # type: ignore[operator]  # one of the kinds above

    async with asyncio.TaskGroup() as group:
        while time.monotonic() < until:
            model = chance.choice(list(callers))
            group.create_task(one(callers[model], model, chance.choice(kinds)))
            number += 1
            await asyncio.sleep(max(0.0, started + number / REQUESTS_PER_S - loop.time()))


async def sample(sampler: Sampler, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.to_thread(sampler.take)
        await asyncio.sleep(SAMPLE_EVERY_S)


async def scale(platform: Platform, account: str, until: float) -> None:
    """The customer's own service, up to two instances and back to one, again and again."""
    wanted = 1
    while time.monotonic() + SCALE_EVERY_S < until:
        await asyncio.sleep(SCALE_EVERY_S)
        wanted = 3 - wanted
        await asyncio.to_thread(platform.hydra, "service", "scale", OWN, str(wanted), "--account", account)


def lag_is_gone(platform: Platform) -> bool:
    return all(
        f'hydra_stream_lag_messages{{process="{name}"}} 0.0'
        in httpx.get(f"{platform.url(name)}/metrics", timeout=30).text
        for name in ("token_charges", "instance_charges", "warehouse")
    )


def test_nothing_grows_under_a_steady_load(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home", HYDRA_GATEWAY_SPOOL_SEGMENT_BYTES=SEGMENT_BYTES) as platform:
        account = platform.new_account("soak")
        key = platform.new_key(account)
        where = ("--model", "qwen2.5-7b-instruct", "--region", "sh-02", "--replicas", "1")
        platform.hydra("service", "deploy", OWN, *where, "--account", account)
        platform.await_ready(OWN, account, 1)
        caller = Caller(platform.url("gateway"), key, random.Random(SEED))
        until = time.monotonic() + MINUTES * 60
        sampler = Sampler(platform)

        async def soak() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(load({SHARED: caller, f"{account}/{OWN}": caller}, until))
                group.create_task(sample(sampler, until))
                group.create_task(scale(platform, account, until))
            await caller.client.aclose()

        asyncio.run(soak())
        wait_until(lambda: lag_is_gone(platform), "all that was used is charged", 120)
        restarted = sampler.restarted()

    FOLDER.mkdir(parents=True, exist_ok=True)
    write_csv(sampler.series, FOLDER / "soak.csv")
    table, grown = report(sampler.series)
    table += f"\n{caller.sent} requests: {caller.answered} answered, {caller.left} left, {caller.failed} failed"
    (FOLDER / "soak.txt").write_text(table + "\n")
    print(f"\n{table}\nthe samples: {FOLDER / 'soak.csv'}")
    assert not restarted, f"started anew meanwhile: {', '.join(restarted)}"
    assert not grown, "\n".join(grown)
    # Scaling down ends what still runs past the drain; nothing else may fail.
    assert caller.answered > caller.sent // 2
    assert caller.failed <= caller.sent // 100, f"{caller.failed} of {caller.sent} requests failed"
