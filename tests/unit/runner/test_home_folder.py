"""Logs, Kafka's records and ClickHouse's data are the business of the platform's user alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.running_lock import running_lock
from runner.settings import RunnerSettings


@pytest.mark.parametrize("earlier", [False, True])
def test_a_platforms_home_is_its_users_alone(tmp_path: Path, earlier: bool) -> None:
    home = tmp_path / "state" / "hydra"
    if earlier:
        home.mkdir(mode=0o755, parents=True)
    with running_lock(RunnerSettings(home=home)):
        assert home.stat().st_mode & 0o777 == 0o700
