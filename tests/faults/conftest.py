"""A way of money of its own for each test that harms the streams alone; an empty database for two processes of one
control service; one platform for those that harm it whole and need no other than its processes come back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.builders.billing_events import deepseek_prices, hour_price
from tests.faults.away import SESSION_S, WRITE_OFF_S
from tests.faults.truth import ledger_settings
from tests.servers.billing_way import BillingWay
from tests.servers.databases import empty_database
from tests.servers.platform import ROOT, Platform, running_platform


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[BillingWay]:
    async with BillingWay(tmp_path) as way:
        await way.publish_prices([*deepseek_prices(), hour_price("10")])
        yield way


@pytest.fixture(params=["sqlite", "postgresql"])
async def shared_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database that both processes of a control service use."""
    return await empty_database(request.param, request, tmp_path)


@pytest.fixture(scope="package")
def platform_in_trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Its processes are missed soon, and its texts are its own, to be edited. Every test leaves it in order."""
    home = tmp_path_factory.mktemp("trouble")
    shutil.copytree(ROOT / "config", home / "config")
    streams = ("token_charges", "instance_charges", "warehouse", "live_spend")
    settings = {f"HYDRA_{name.upper()}_SESSION_TIMEOUT_S": str(SESSION_S) for name in streams}
    settings |= {
        "HYDRA_CONFIG_DIR": str(home / "config"),
        "HYDRA_LIFECYCLE_WRITE_OFF_AFTER_S": str(WRITE_OFF_S),
        # `hydra status` asks lifecycle, which may be what stands still.
        "HYDRA_REQUEST_TIMEOUT_S": "3",
    }
    with running_platform(home, **ledger_settings(home), **settings) as platform:
        yield platform
