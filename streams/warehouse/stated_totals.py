"""States the exact total of every (account, UTC hour) that a batch touched on `hydra.spend`; it never adds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from aiokafka import ConsumerRecord

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.spend_totals import hour_totals
from adapters.clickhouse.writing import AccountHour
from adapters.kafka.partitions import partition_of
from adapters.kafka.producer import EventProducer
from schemas import codec
from schemas.spend import SpendStated
from schemas.topics import CHARGES, SPEND
from streams.metrics import StreamMetrics
from streams.warehouse.progress_notes import ProgressNotes

SOURCE = "/hydra/warehouse"

Totals = dict[AccountHour, dict[str, Decimal]]


def spend_key(account: str, hour: datetime) -> str:
    """`<account>/<hour>`, so that each hour's last total stays in the compacted topic."""
    return f"{account}/{hour:%Y-%m-%dT%HZ}"


class StatedTotals:
    """Each total names the offset of the account's partition of `hydra.charges` that it covers.

    What is covered was noted before the total is asked for: a total may hold more than it names, never less. An hour
    can change without a new charge, by a conflict that was found; then the same offset is stated again, and the
    later statement stands.
    """

    def __init__(
        self, clickhouse: ClickHouse, producer: EventProducer, progress: ProgressNotes, metrics: StreamMetrics
    ) -> None:
        self._clickhouse = clickhouse
        self._producer = producer
        self._progress = progress
        self._metrics = metrics

    async def state_as_they_stay(self, hours: Collection[AccountHour]) -> bool:
        """State the totals of `hours`; whether they were the same still once Kafka had them. Raises Unavailable.

        Where they were not, another member may have stated the newer ones in between, and ours came after them.
        """
        stated = await self.state(hours, ())
        return stated == await hour_totals(self._clickhouse, hours)

    async def state(self, hours: Collection[AccountHour], records: Sequence[ConsumerRecord]) -> Totals:
        """Return what was stated once Kafka has the totals of `hours`. Raises Unavailable."""
        if not hours:
            return {}
        covered = self._progress.noted_of(CHARGES.name)
        for record in records:
            if record.topic == CHARGES.name:
                covered[record.partition] = max(covered.get(record.partition, 0), record.offset + 1)
        totals = await hour_totals(self._clickhouse, hours)
        sent = []
        for (account, hour), total in totals.items():
            partition = partition_of(account.encode(), CHARGES.partitions)
            stated = SpendStated(
                account=account, hour=hour, totals=total, covers_offset=max(0, covered.get(partition, 0) - 1)
            )
            key = spend_key(account, hour)
            event = codec.event(stated, id=f"{key}@{stated.covers_offset}", source=SOURCE, subject=account, time=hour)
            spend_partition = partition_of(account.encode(), SPEND.partitions)
            sent.append(await self._producer.send(SPEND, key, codec.encode(event), partition=spend_partition))
        await self._producer.acknowledged(sent)
        self._metrics.stated.inc(len(sent))
        return totals
