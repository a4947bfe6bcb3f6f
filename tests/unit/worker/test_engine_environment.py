"""An engine starts with what engines read and without what is the platform's."""

from __future__ import annotations

import pytest

from runner.linux_processes import PLATFORM_MARK
from services.worker.engine_environment import engine_environment


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_HOME", "HF_HOME", "OMP_NUM_THREADS", PLATFORM_MARK]
)
def test_what_engines_need_is_passed_on(name: str) -> None:
    assert engine_environment({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name", ["HYDRA_LIFECYCLE_DATABASE_URL", "HYDRA_API_KEY", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"]
)
def test_what_is_not_theirs_stays_here(name: str) -> None:
    assert engine_environment({name: "x"}) == {}
