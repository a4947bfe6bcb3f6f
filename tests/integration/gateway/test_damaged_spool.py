"""A spool that its disk has damaged: what can be read is published, the file is kept, and told of while it lies there.

One of a dead neighbour, and one that lies under the gateway's own name.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from services.gateway.spool_files import Intent, end_record, intent_record, lost_usage, segment_path, usage_event
from tests.servers.gateway import GatewayPlatform

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def intent(number: int, account: str) -> Intent:
    received = START + timedelta(seconds=number)
    return Intent(
        f"cmp-{account[2:]}{number:020x}", account, "k-0123456789ab", "public/m", "chat.completions", True, received,
        "s-0123456789ab", "m", "sh-02", "token", "i-0123456789ab", 3, None, "dead",
    )  # fmt: skip


def end(number: int, account: str) -> bytes:
    usage = msgspec.structs.replace(
        lost_usage(intent(number, account)), outcome="completed", status=200, prompt_tokens=3, completion_tokens=number
    )
    return end_record(usage.request_id, account, usage_event(usage))


@pytest.mark.parametrize("name", ["dead", "own"])
async def test_a_damaged_spool_is_adopted_as_far_as_it_can_be_read_and_kept(
    platform: GatewayPlatform, name: str
) -> None:
    account = (await platform.customer()).account
    root = platform.home / "gateway" / "spools"
    folder = root / name
    folder.mkdir(parents=True)
    bad = bytearray(end(2, account))
    bad[len(bad) // 2] ^= 1
    damaged = end(1, account) + bytes(bad) + end(3, account) + intent_record(intent(4, account))
    segment_path(folder, 1).write_bytes(damaged)
    segment_path(folder, 2).write_bytes(end(5, account) + end(6, account)[:-5])
    await platform.start_gateway(id="own")
    usages = await platform.usage(account, 4)
    assert [(usage.outcome, usage.completion_tokens) for usage in usages] == [
        ("completed", 1), ("completed", 3), ("gateway_lost", None), ("completed", 5),
    ]  # fmt: skip
    kept = root / f"{name}-000000000001.damaged"
    await until_shown(platform, 1)
    assert kept.read_bytes() == damaged
    assert not segment_path(folder, 1).exists(), "nobody reads it again"
    assert name == "own" or not folder.exists()
    assert kept.name in (platform.home / "gateway.log").read_text()
    assert platform.gateway is not None
    await asyncio.to_thread(platform.gateway.terminate)
    await platform.start_gateway(id="own")
    await until_shown(platform, 1)
    kept.unlink()
    await until_shown(platform, 0)


async def until_shown(platform: GatewayPlatform, count: int) -> None:
    """So many damaged files are shown as kept."""
    async with asyncio.timeout(90), httpx.AsyncClient(trust_env=False) as client:
        while True:
            text = (await client.get(f"{platform.url}/metrics")).text
            if re.search(rf"^hydra_gateway_spools_damaged {count}\.0$", text, re.MULTILINE):
                return
            await asyncio.sleep(0.1)
