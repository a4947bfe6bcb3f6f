"""Two accounts processes over one database, one of them stopped and continued: no change lost, none undone."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from adapters.kafka.topics import create_topics
from schemas import codec
from schemas.accounts import ApiKeyState
from schemas.topics import API_KEYS
from tests.faults.two_at_once import stopped
from tests.servers.control_process import ControlProcess, running_control
from tests.servers.topic_reading import records_of

pytestmark = pytest.mark.timeout(1800)

ROUNDS = int(os.environ.get("HYDRA_FAULTS_RELAY_ROUNDS", "1"))
SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
KEYS_A_ROUND = 6
BUSY_S = 0.7
DEADLINE_S = 120


@pytest.fixture
def two(shared_database: str, tmp_path: Path, kafka: str) -> Iterator[list[ControlProcess]]:
    asyncio.run(create_topics(kafka))
    with ExitStack() as running:
        yield [
            running.enter_context(
                running_control("accounts", tmp_path / "home", kafka, HYDRA_ACCOUNTS_DATABASE_URL=shared_database)
            )
            for _ in range(2)
        ]


class Owner:
    """Makes keys and revokes them through one of the processes; every answer is a promise."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.keys: dict[str, str] = {}
        self.revoked: set[str] = set()

    async def makes_and_revokes(self, operator: httpx.AsyncClient, account: str, chance: random.Random) -> None:
        """A new key, and changes of old ones; about half are deleted in the end."""
        keys = f"/v1/accounts/{account}/keys"
        made = (await operator.post(keys, json={})).raise_for_status().json()
        self.keys[made["id"]], self.versions[made["id"]] = made["key"], 1
        for id in chance.sample(
            sorted(self.versions.keys() - self.revoked), k=min(2, len(self.versions) - len(self.revoked))
        ):
            if chance.random() < 0.5:
                (await operator.delete(f"{keys}/{id}")).raise_for_status()
                self.revoked.add(id)
            else:
                (await operator.patch(f"{keys}/{id}", json={"name": secrets.token_hex(4)})).raise_for_status()
            self.versions[id] += 1


async def states_by_key(bootstrap: str, keys: set[str]) -> dict[str, list[ApiKeyState]]:
    """What the topic holds of each key, in its order."""
    found: dict[str, list[ApiKeyState]] = defaultdict(list)
    for record in await records_of(bootstrap, API_KEYS):
        if record.key.decode() in keys and record.value is not None:
            found[record.key.decode()].append(codec.decode(record.value, ApiKeyState).data)
    return found


async def all_published(bootstrap: str, owner: Owner) -> dict[str, list[ApiKeyState]]:
    """The topic once every version of every key is on it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await states_by_key(bootstrap, set(owner.versions))
            lacking = {
                id: sorted(set(range(1, version + 1)) - {state.version for state in found[id]})
                for id, version in owner.versions.items()
            }
            if not any(lacking.values()):
                return found
            await asyncio.sleep(0.3)


async def both_ready(two: list[ControlProcess]) -> None:
    async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient(timeout=30) as client:
        for process in two:
            while (await client.get(f"{process.url}/health/ready")).status_code != 200:
                await asyncio.sleep(0.1)


async def test_a_stopped_relay_that_goes_on_later_loses_nothing_and_undoes_nothing(
    two: list[ControlProcess], shared_database: str, kafka: str
) -> None:
    chance, owner = random.Random(SEED), Owner()
    async with httpx.AsyncClient(timeout=60, headers=two[0].operator) as operator:
        account = (await operator.post(f"{two[0].url}/v1/accounts", json={"name": "two"})).json()["id"]

        async def changes(through: list[ControlProcess], count: int) -> None:
            for number in range(count):
                operator.base_url = through[number % len(through)].url
                await owner.makes_and_revokes(operator, account, chance)

        for number in range(2 * ROUNDS):
            victim, other = two[number % 2], two[1 - number % 2]
            # Stopped at a drawn moment while both work, so that it falls between its steps.
            busy = asyncio.create_task(changes([other], KEYS_A_ROUND))
            await asyncio.sleep(chance.uniform(0, BUSY_S))
            async with stopped(victim, shared_database):
                await busy
                await changes([other], KEYS_A_ROUND)
                await all_published(kafka, owner)  # the other relay has taken over, where it did not have the lease
                await changes([other], KEYS_A_ROUND)
            await changes(two, 2)
            await both_ready(two)
        found = await all_published(kafka, owner)
        for id, states in found.items():
            assert states[-1].version == owner.versions[id], f"an older state of {id} lies on top"
            assert (states[-1].status == "deleted") == (id in owner.revoked)
        assert len(owner.revoked) > ROUNDS
        for process in two:
            for id, key in owner.keys.items():
                answer = await operator.get(f"{process.url}/v1/accounts/me", headers={"Authorization": f"Bearer {key}"})
                assert (answer.status_code == 401) == (id in owner.revoked), answer.text
