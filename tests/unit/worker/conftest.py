"""A node's folder and a clock that tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.worker.moved_clock import MovedClock
from tests.unit.worker.one_instance import Place


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def place(tmp_path: Path, clock: MovedClock) -> Place:
    return Place(tmp_path, clock)
