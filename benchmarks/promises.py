"""Two promises: how far an instance's charges are behind while it runs, and how soon a change of a key is in force."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.servers.platform import Platform, running_platform

WHERE = ("--region", "sh-02", "--model", "qwen2.5-7b-instruct")
SERVICE = "measured"
FOLLOWED_S = 240.0
"""Some charges long: an instance's ready seconds are gathered for most of a minute."""
LOOK_EVERY_S = 0.5
KEYS = 50
POLL_S = 0.002
DEADLINE_S = 30.0


async def measure() -> dict[str, float]:
    """`charges_behind_*_s` of one instance over `FOLLOWED_S`; `key_<change>_*_ms` of `KEYS` keys.

    Charges are behind by the time since the last second that is charged and can be read from billing. A key's change
    counts from the answer of accounts on.
    """
    with tempfile.TemporaryDirectory() as folder, running_platform(Path(folder)) as platform:
        account = await asyncio.to_thread(platform.new_account, "bench")
        await asyncio.to_thread(platform.hydra, "service", "deploy", SERVICE, *WHERE, "--account", account)
        await asyncio.to_thread(platform.await_ready, SERVICE, account, 1)
        async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
            following = asyncio.create_task(_followed(client, platform, account))
            figures = await _key_changes(client, platform, account)
            return figures | (await following).figures()


@dataclass
class Followed:
    """What billing showed of an instance's charges while it ran: when it was asked, and until when it was charged."""

    looks: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    begun: datetime | None = None
    charges: int = 0

    def saw(self, at: datetime, segments: list[tuple[datetime, datetime]]) -> None:
        """Take one look: what is charged, as intervals."""
        self.looks.append((at, max((until for _, until in segments), default=None)))
        self.begun = min((start for start, _ in segments), default=None)
        self.charges = len(segments)

    def figures(self) -> dict[str, float]:
        """Raises RuntimeError where nothing was charged at all."""
        if self.begun is None:
            raise RuntimeError(f"no charge of an instance that has run for {FOLLOWED_S:.0f} s")
        # Before its first charge, an instance is behind by what it has run.
        behind = [(at - (until or self.begun)).total_seconds() for at, until in self.looks if at > self.begun]
        return {
            "charges_behind_p50_s": statistics.median(behind),
            "charges_behind_max_s": max(behind),
            "charges_seen": self.charges,
        }


async def _followed(client: httpx.AsyncClient, platform: Platform, account: str) -> Followed:
    followed = Followed()
    until = time.monotonic() + FOLLOWED_S
    while time.monotonic() < until:
        answer = await client.get(
            platform.url("billing") + "/v1/charges",
            params={"account": account},
            headers={"Authorization": f"Bearer {platform.operator_token}"},
        )
        page: dict[str, Any] = answer.raise_for_status().json()
        segments = [(_instant(row["segment_from"]), _instant(row["segment_until"])) for row in page["data"]]
        followed.saw(datetime.now(UTC), segments)
        await asyncio.sleep(LOOK_EVERY_S)
    return followed


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def _key_changes(client: httpx.AsyncClient, platform: Platform, account: str) -> dict[str, float]:
    """Milliseconds from the answer of accounts until the gateway does as it says."""
    keys = f"{platform.url('accounts')}/v1/accounts/{account}/keys"
    operator = {"Authorization": f"Bearer {platform.operator_token}"}
    taken: dict[str, list[float]] = {"created": [], "disabled": [], "enabled": [], "deleted": []}
    for _ in range(KEYS):
        made = (await client.post(keys, json={}, headers=operator)).raise_for_status().json()
        key, one = made["key"], f"{keys}/{made['id']}"
        taken["created"].append(await _in_force_ms(client, platform, key, 200))
        for change, status, expected in (("disabled", "disabled", 401), ("enabled", "active", 200)):
            (await client.patch(one, json={"status": status}, headers=operator)).raise_for_status()
            taken[change].append(await _in_force_ms(client, platform, key, expected))
        (await client.delete(one, headers=operator)).raise_for_status()
        taken["deleted"].append(await _in_force_ms(client, platform, key, 401))
    return {
        f"key_{change}_{name}_ms": value
        for change, times in taken.items()
        for name, value in (("p50", statistics.median(times)), ("max", max(times)))
    }


async def _in_force_ms(client: httpx.AsyncClient, platform: Platform, key: str, expected: int) -> float:
    """Asked again and again: how long until the gateway answers this key with the expected status."""
    changed = time.monotonic()
    while True:
        answer = await client.get(platform.url("gateway") + "/v1/models", headers={"Authorization": f"Bearer {key}"})
        waited_s = time.monotonic() - changed
        if answer.status_code == expected:
            return waited_s * 1000
        if waited_s > DEADLINE_S:
            raise RuntimeError(
                f"the gateway answers {answer.status_code} to a key, not {expected}, for {waited_s:.0f} s"
            )
        await asyncio.sleep(POLL_S)
