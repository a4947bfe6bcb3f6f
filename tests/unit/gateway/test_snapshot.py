"""What is kept for a start without Kafka."""

import asyncio
import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState, Endpoint
from services.gateway import snapshot
from services.gateway import state as state_module
from services.gateway.snapshot import Snapshot
from services.gateway.state import SNAPSHOT_AGE_MAX_S, SNAPSHOT_AHEAD_S_MAX, PlatformState
from tests.servers.gateway_in_process import InProcess, until

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ACCOUNT = "u-0123456789ab"


def written(path: Path, *, age_s: float = 0.0) -> Snapshot:
    made = Snapshot(
        confirmed=time.time() - age_s,
        accounts=[
            AccountState(
                account=ACCOUNT,
                version=3,
                name="a",
                status="active",
                created=NOW,
                currency="CNY",
                spend_limit=Decimal("10.50"),
            )
        ],
        keys=[
            ApiKeyState(
                key_id="k-0123456789ab",
                version=1,
                account=ACCOUNT,
                name="k",
                key_hash="0" * 64,
                masked="sk-abcd...wxyz",
                scopes=("inference",),
                status="active",
                created=NOW,
            )
        ],
        deployments=[
            DeploymentState(
                service_id="s-0123456789ab",
                version=2,
                account="public",
                access_path="public/m",
                model="m",
                region="sh-02",
                billing="token",
                status="running",
                created=NOW,
                instances_wanted=1,
                endpoints=(Endpoint(instance="i-0123456789ab", epoch=1, address="127.0.0.1:9"),),
                ever_ready=True,
            )
        ],
    )
    snapshot.save(path, made)
    return made


def test_it_comes_back_as_written_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    first = written(path)
    assert snapshot.load(path) == first
    again = written(path)
    assert snapshot.load(path) == again and path.stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot.json"]


def test_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    assert snapshot.load(path) is None
    path.write_bytes(b'{"confirmed": 1, "keys": [{}]}')
    assert snapshot.load(path) is None


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_two_writers_at_once_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways in two containers share the folder, and may even share their process id."""
    path = tmp_path / "snapshot.json"
    in_the_middle, go_on = threading.Event(), threading.Event()
    sync = os.fsync

    def held(handle: int) -> None:
        if not in_the_middle.is_set():
            in_the_middle.set()
            go_on.wait(60)
        sync(handle)

    monkeypatch.setattr(os, "fsync", held)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(written, path, age_s=5)
        try:
            assert in_the_middle.wait(60)
            assert snapshot.load(path) is None
            second = written(path)
            assert snapshot.load(path) == second
        finally:
            go_on.set()
        assert snapshot.load(path) in (writing.result(60), second)
    assert names(tmp_path) == ["snapshot.json"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "snapshot.json"
    first = written(path, age_s=5)

    def failing(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="no space"):
        written(path)
    assert snapshot.load(path) == first and names(tmp_path) == ["snapshot.json"]


def test_what_killed_writers_have_left_goes_once_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    old, young, others = (tmp_path / f"snapshot.json.{name}" for name in ("abc.tmp", "def.tmp", "before-the-upgrade"))
    for each in (old, young, others):
        each.write_bytes(b"{")
    long_ago = time.time() - snapshot.LEFTOVER_AGE_S - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(others, (long_ago, long_ago))
    written(path)
    assert names(tmp_path) == sorted(["snapshot.json", young.name, others.name])


def state_of(made: InProcess, path: Path) -> PlatformState:
    gateway = made.gateway
    return PlatformState(
        "127.0.0.1:1", gateway.admission, gateway.routes, path, snapshot_interval_s=1.0, kafka_wait_s=1.0
    )


async def test_it_is_in_force_with_its_age_but_does_not_make_ready_by_itself(made: InProcess, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    written(path, age_s=100)
    state = state_of(made, path)
    state.load_snapshot()
    assert 100 <= state.age_s() < 200 and not state.ready
    assert made.gateway.routes.services["public/m"].instances[0].id == "i-0123456789ab"


async def test_one_that_may_bring_back_what_was_deleted_is_not_used(made: InProcess, tmp_path: Path) -> None:
    assert timedelta(seconds=SNAPSHOT_AGE_MAX_S) < timedelta(days=30)
    path = tmp_path / "snapshot.json"
    written(path, age_s=SNAPSHOT_AGE_MAX_S + 1)
    state = state_of(made, path)
    state.load_snapshot()
    assert state.age_s() == float("inf") and "public/m" not in made.gateway.routes.services


async def test_one_from_the_future_is_not_used_since_its_age_cannot_be_told(made: InProcess, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    written(path, age_s=-(SNAPSHOT_AHEAD_S_MAX + 60))
    state = state_of(made, path)
    state.load_snapshot()
    assert state.age_s() == float("inf") and "public/m" not in made.gateway.routes.services


class Confirmed(PlatformState):
    """As with Kafka there and read to its end, at every time that it is asked."""

    def _caught_up(self) -> bool:
        return True

    async def _confirm(self) -> None:
        pass


async def test_one_is_written_though_the_wall_clock_was_set_back(
    made: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there seems to come from the future, and a start without Kafka would not use it."""
    path, shown = tmp_path / "snapshot.json", NOW

    def kept() -> float | None:
        found = snapshot.load(path)
        return found.confirmed if found is not None else None

    monkeypatch.setattr(state_module, "wall_now", lambda: shown)
    monkeypatch.setattr(state_module, "CONFIRM_INTERVAL_S", 0.01)
    admission, routes = made.gateway.admission, made.gateway.routes
    state = Confirmed("127.0.0.1:1", admission, routes, path, snapshot_interval_s=0.01, kafka_wait_s=1.0)
    following = asyncio.create_task(state.follow())
    try:
        await until(lambda: kept() == NOW.timestamp())
        shown = NOW - timedelta(hours=1)
        await until(lambda: kept() == shown.timestamp())
    finally:
        following.cancel()
        await asyncio.wait([following])
