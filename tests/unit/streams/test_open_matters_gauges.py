"""What waits for a person, before it was counted: nobody may take that for none."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry

from adapters.clickhouse.client import ClickHouse, ClickHouseAddress
from streams.warehouse.open_matters_gauges import OpenMattersGauges


async def test_before_the_first_count_there_is_no_number_that_a_restart_could_rise_from() -> None:
    registry = CollectorRegistry()
    OpenMattersGauges(ClickHouse(ClickHouseAddress("http://127.0.0.1:9", "hydra", "p")), registry)
    conflicts = registry.get_sample_value("hydra_conflicts")
    assert conflicts is not None and math.isnan(conflicts)
    (parked,) = [family for family in registry.collect() if family.name == "hydra_parked_messages"]
    assert parked.samples == []
