"""No room on the disk, under load: refused cleanly, told by `hydra status`, and gone on with once there is room.

Room is taken by a file-size limit (RLIMIT_FSIZE), which needs no rights; tests/e2e/test_full_tmpfs.py does the same on
file systems that are full.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.comparison import Compared, compare
from tests.faults.disk_full import Played, play
from tests.faults.harms import no_room
from tests.faults.truth import ledger_settings
from tests.servers.platform import Platform, running_platform

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("full")
    with running_platform(home, **ledger_settings(home)) as platform:
        yield platform


@pytest.fixture(scope="module")
def played(platform: Platform) -> Played:
    # The engine does not see this limit in the room that it asks the disk for, so ClickHouse itself has to give way.
    return play(platform, no_room, clickhouse_told_by="clickhouse")


@pytest.fixture(scope="module")
def compared(platform: Platform, played: Played) -> Compared:
    return compare(platform, played.load, full=True)


@pytest.mark.parametrize("name", ["lifecycle", "accounts"])
def test_a_database_without_room_refuses_changes_and_says_so(played: Played, name: str) -> None:
    assert "disk" in played.told[name]
    assert played.refused[name].returncode != 0
    assert "Try again in a moment" in played.refused[name].stderr


def test_a_spool_without_room_serves_nobody_and_says_so(played: Played) -> None:
    assert "spool cannot be written" in played.told["gateway"]
    assert played.answered_without_room == 0


def test_clickhouse_starts_again_when_its_disk_lets_it_down_and_says_why(played: Played) -> None:
    assert "disk has not taken" in played.told["clickhouse"]
    assert {name for name, count in played.restarts.items() if count} == {"clickhouse"}


def test_the_bill_is_right_after_all_that(compared: Compared) -> None:
    print(compared.line())
    assert compared.outcomes["gateway_lost"] == 0
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0
