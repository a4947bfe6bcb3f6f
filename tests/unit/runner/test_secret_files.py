"""Secrets on disk: made once, each whole or not at all, whatever kills their maker."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from adapters import secret_files
from adapters.errors import Misconfigured

KILLED_AT_ITS_FIRST_WRITE = """
import resource, signal, sys
from pathlib import Path
from adapters import secret_files
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
secret_files.make_missing(Path(sys.argv[1]))
"""


def all_secrets(folder: Path) -> dict[str, str]:
    return {name: secret_files.read(folder, name) for name in secret_files.ALL}


def test_a_maker_that_is_killed_at_its_first_write_leaves_nothing_that_passes_for_a_secret(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_ITS_FIRST_WRITE, str(folder)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert list(folder.iterdir()), "it was killed after it had made a file"
    for name in secret_files.ALL:
        with pytest.raises(Misconfigured, match="cannot be read"):
            secret_files.read(folder, name)

    secret_files.make_missing(folder)
    assert all(len(text) > 40 for text in all_secrets(folder).values())
    assert {path.name for path in folder.iterdir()} == set(secret_files.ALL)


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secret_files.make_missing(folder)
    before = all_secrets(folder)
    (folder / secret_files.CLUSTER_SECRET).unlink()
    secret_files.make_missing(folder)
    after = all_secrets(folder)
    assert after.pop(secret_files.CLUSTER_SECRET) != before.pop(secret_files.CLUSTER_SECRET)
    assert after == before


def test_starts_at_the_same_moment_agree_on_every_secret(tmp_path: Path) -> None:
    folder, starts = tmp_path / "secrets", 8
    together = Barrier(starts)

    def start(_: int) -> dict[str, str]:
        together.wait(timeout=60)
        secret_files.make_missing(folder)
        return all_secrets(folder)

    with ThreadPoolExecutor(starts) as pool:
        first, *others = pool.map(start, range(starts))
    assert all(one == first for one in others)
    assert {path.name for path in folder.iterdir()} == set(secret_files.ALL)
