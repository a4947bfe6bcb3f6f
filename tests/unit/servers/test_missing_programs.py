"""A test that is left out for a program that the set-up fetches has failed where all are needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.missing_programs import NEED_ALL_SETTING

ROOT = Path(__file__).resolve().parents[3]
TESTS = """
import pytest
from tests.servers.prometheus import PrometheusMissing

@pytest.fixture
def program():
    try:
        raise PrometheusMissing("there is no prometheus")
    except PrometheusMissing as missing:
        pytest.skip(str(missing))

def test_needs_it(program): ...

def test_skips_for_another_reason():
    pytest.skip("only root can")

def test_runs(): ...
"""


@pytest.mark.parametrize(("need_all", "ended"), [("1", "1 passed, 1 skipped, 1 error"), ("", "1 passed, 2 skipped")])
def test_left_out_or_failed(tmp_path: Path, need_all: str, ended: str) -> None:
    (tmp_path / "test_played.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    (tmp_path / "none.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-c", str(tmp_path / "none.ini"), "-p", "no:cacheprovider"]
    environment = {**os.environ, NEED_ALL_SETTING: need_all, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended in done.stdout, done.stdout
    assert ("and there is no prometheus" in done.stdout) == bool(need_all)
