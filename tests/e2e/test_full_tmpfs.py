"""File systems that are really full, small ones in memory that root mounts: as tests/faults/test_disk_full.py.

Here ClickHouse's engine sees that there is no room: it refuses, the warehouse waits, and nothing has to start again.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.comparison import Compared, compare
from tests.faults.disk_full import Played, play
from tests.faults.truth import ledger_settings
from tests.servers.platform import Platform, running_platform

MIB = 1 << 20
SIZES_MIB = {"gateway": 64, "lifecycle": 64, "accounts": 64, "clickhouse": 512}
"""Of each process's folder; the process writes nowhere else."""
KEEP_FREE_BYTES = 64 * MIB
"""Of the engine's file system, so that it must stop while there is still room for a part that is being written."""


@contextmanager
def small_file_systems(home: Path) -> Iterator[None]:
    """Mount them at the folders of `home`, and take them away whatever happened."""
    with ExitStack() as stack:
        for name, size_mib in SIZES_MIB.items():
            folder = home / name
            folder.mkdir(mode=0o700)
            options = f"size={size_mib}m,mode=700"
            made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
            if made.returncode != 0:
                pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        yield


@contextmanager
def no_room(platform: Platform, name: str) -> Iterator[None]:
    """Fill the file system of this process to its last page, and empty it again."""
    filler = platform.home / name / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    home = tmp_path_factory.mktemp("tmpfs")
    settings = ledger_settings(home) | {"HYDRA_CLICKHOUSE_KEEP_FREE_BYTES": str(KEEP_FREE_BYTES)}
    with small_file_systems(home), running_platform(home, **settings) as platform:
        yield platform


@pytest.fixture(scope="module")
def played(platform: Platform) -> Played:
    return play(platform, no_room, clickhouse_told_by="warehouse")


@pytest.fixture(scope="module")
def compared(platform: Platform, played: Played) -> Compared:
    return compare(platform, played.load, full=True)


@pytest.mark.parametrize("name", ["lifecycle", "accounts"])
def test_a_full_database_refuses_changes_and_says_so(played: Played, name: str) -> None:
    assert "disk is full" in played.told[name]
    assert played.refused[name].returncode != 0


def test_a_full_spool_serves_nobody_and_says_so(played: Played) -> None:
    assert "spool cannot be written" in played.told["gateway"]
    assert played.answered_without_room == 0


def test_the_warehouse_waits_for_a_full_clickhouse_and_says_so(played: Played) -> None:
    assert "not enough space" in played.told["clickhouse"]


def test_nobody_had_to_be_started_again(played: Played) -> None:
    assert {name: count for name, count in played.restarts.items() if count} == {}


def test_the_bill_is_right_after_full_file_systems(compared: Compared) -> None:
    print(compared.line())
    assert compared.outcomes["gateway_lost"] == 0
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0
