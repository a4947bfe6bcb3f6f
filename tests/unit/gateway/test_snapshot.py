"""What is kept for a start without Kafka."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState, Endpoint
from services.gateway import snapshot
from services.gateway.snapshot import Snapshot
from services.gateway.state import SNAPSHOT_AGE_MAX_S, SNAPSHOT_AHEAD_S_MAX, PlatformState
from tests.servers.gateway_in_process import InProcess

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
