"""Accounts dies and comes back: nothing that it answered is lost, and what Kafka lacks is published."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from adapters.api_keys import ApiKeys, NotAuthenticated
from adapters.errors import Unavailable
from adapters.kafka.topics import create_topics
from tests.servers.control_process import ROOT, running_control


def account_of(keys: ApiKeys, key: str) -> str | None:
    """Whose key it is, None while it is not known."""
    try:
        return keys.principal(f"Bearer {key}").account
    except (NotAuthenticated, Unavailable):
        return None


async def test_what_it_answered_before_a_kill_is_published_after_it(
    kafka: str, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    await create_topics(kafka)
    home = tmp_path / "home"
    # Without Kafka nothing can have been published before the kill.
    with running_control("accounts", home, f"127.0.0.1:{unused_port()}", wait_for="live") as first:
        async with httpx.AsyncClient(base_url=first.url, headers=first.operator, timeout=30) as operator:
            assert (await operator.get("/health/ready")).status_code == 503
            account = (await operator.post("/v1/accounts", json={"name": "a"})).json()["id"]
            key = (await operator.post(f"/v1/accounts/{account}/keys", json={})).json()["key"]
        first.process.kill()
        first.process.wait()
    checked = ApiKeys(kafka, "another token")
    following = asyncio.create_task(checked.run())
    with running_control("accounts", home, kafka):
        async with asyncio.timeout(60):
            while True:
                if account_of(checked, key) is not None:
                    break
                await asyncio.sleep(0.05)
        assert account_of(checked, key) == account
        assert "public" in checked.accounts.states
    following.cancel()
    await asyncio.wait([following])


async def test_a_start_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.accounts",
        cwd=ROOT,
        env={"HYDRA_HOME": str(tmp_path), "HYDRA_ACCOUNTS_PORT": "no number"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().count("\n") == 1
    assert "HYDRA_ACCOUNTS_PORT" in said.decode()
    assert "no number" not in said.decode()
