"""What waits for a person: parked messages that were not replayed, and ids with two hashes."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.clickhouse.client import ClickHouse


@dataclass(frozen=True)
class OpenMatters:
    """`parked` counts by (processor, reason); `conflicts` counts ids."""

    parked: dict[tuple[str, str], int]
    conflicts: int


async def open_matters(clickhouse: ClickHouse) -> OpenMatters:
    """As the tables have it now, whoever wrote them and when. Raises Unavailable."""
    parked = await clickhouse.query(
        "SELECT processor, reason, count() FROM v_parked WHERE replayed_at IS NULL GROUP BY processor, reason"
    )
    ((conflicts,),) = await clickhouse.query("SELECT uniqExact(kind, id) FROM conflicting_events")
    return OpenMatters({(processor, reason): count for processor, reason, count in parked}, conflicts)
