"""A way of money of its own for each test that harms the streams alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.billing_events import deepseek_prices, hour_price
from tests.servers.billing_way import BillingWay


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[BillingWay]:
    async with BillingWay(tmp_path) as way:
        await way.publish_prices([*deepseek_prices(), hour_price("10")])
        yield way
