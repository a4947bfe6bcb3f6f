"""One platform for the tests of this folder that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.platform import Platform, running_platform


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running platform with the simulated engine."""
    with running_platform(tmp_path_factory.mktemp("platform")) as platform:
        yield platform
