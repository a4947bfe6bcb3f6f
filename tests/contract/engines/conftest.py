"""Every test of this folder runs on the simulated engine and, where it is set up, on SGLang itself."""

import os
from collections.abc import Iterator

import pytest

from tests.contract.engines.running_engine import SGLANG_PYTHON, RunningEngine, running_engine

# `make sglang` makes the environment; with HYDRA_TEST_SGLANG=1 its absence is a failure instead of a narrower run.
WITH_SGLANG = SGLANG_PYTHON.exists() or os.environ.get("HYDRA_TEST_SGLANG") == "1"
KINDS = ["simulated", *([pytest.param("sglang", marks=pytest.mark.sglang)] if WITH_SGLANG else [])]


@pytest.fixture(scope="package", params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """An engine with room for many requests that reports cached tokens. All tests share it."""
    log = tmp_path_factory.mktemp("engine") / "log"
    with running_engine(request.param, log, "--max-running-requests=32") as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def narrow_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """An engine that runs two sequences and lets one request wait, and does not report cached tokens."""
    log = tmp_path_factory.mktemp("narrow_engine") / "log"
    options = ("--max-running-requests=2", "--max-queued-requests=1")
    with running_engine(request.param, log, *options, cache_report=False) as running:
        yield running
