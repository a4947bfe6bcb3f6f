"""Writing a batch: hashes first, then conflicts, then the rows, so that a conflict is known before its second side can
be read.

The order makes a crash harmless: what is missing comes again with the batch, and every table takes repeats. Two
writers at once are safe too: each notes its hashes before it looks for others, so the later one sees both.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.rows import (
    ChargeRow,
    InstanceEventRow,
    ParkedReplayRow,
    ParkedRow,
    PriceRow,
    StopRow,
    UnratedRow,
    UsageRow,
)
from adapters.clickhouse.statement_lists import quoted
from adapters.clickhouse.waiting import together
from adapters.errors import Unavailable
from domain.calendar import hour_start, utc

AccountHour = tuple[str, datetime]
"""An account and the beginning of a UTC hour of event time."""

# ClickHouse takes a statement of at most 256 KiB.
_IDS_BYTES_MAX = 180_000


@dataclass(frozen=True)
class Batch:
    """The rows of one batch, each table's."""

    usage: Sequence[UsageRow] = ()
    instance_events: Sequence[InstanceEventRow] = ()
    charges: Sequence[ChargeRow] = ()
    unrated: Sequence[UnratedRow] = ()
    prices: Sequence[PriceRow] = ()
    parked: Sequence[ParkedRow] = ()
    parked_replays: Sequence[ParkedReplayRow] = ()
    stops: Sequence[StopRow] = ()


@dataclass(frozen=True)
class Written:
    """`rows` went in; the totals of `hours` may have changed and must be stated again; `conflicts` are the ids of this
    batch that have two hashes, also those known before."""

    rows: int
    hours: frozenset[AccountHour]
    conflicts: frozenset[str]


_CONFLICTS = """
    SELECT kind, id, groupUniqArray((account, source_event)) FROM event_hashes
    WHERE (kind, id) IN (SELECT kind, id FROM event_hashes WHERE batch = {batch:UInt64})
    GROUP BY kind, id HAVING min(payload_hash) != max(payload_hash)
"""
_ATTEMPTS_MAX = 5
_HASH_COLUMNS = ("kind", "id", "payload_hash", "source_event", "account", "batch")
_Hash = tuple[str, str, str, str, str]
"""Plain: there are more of them than of all other rows, and a name for each value would double what they cost."""


class _Conflict(NamedTuple):
    account: str
    source_event: str
    kind: str
    id: str


async def write(clickhouse: ClickHouse, batch: Batch) -> Written:
    """Everything of the batch is in ClickHouse when this returns. May be called again with the same batch.

    Raises Unavailable when it is not all in (call again), Rejected when ClickHouse refuses a row's values.
    """
    conflicts = await _conflicts_after(clickhouse, _hashes_of(batch))
    await _insert(clickhouse, "conflicting_events", conflicts)
    rows = await _insert_all(
        clickhouse,
        ("usage", batch.usage),
        ("instance_events", batch.instance_events),
        ("unrated", batch.unrated),
        ("charges", batch.charges),
        ("prices", batch.prices),
        ("parked", batch.parked),
        ("parked_replays", batch.parked_replays),
        ("stops", batch.stops),
    )
    hours = {(row.account, hour_start(row.event_time)) for row in batch.charges}
    hours |= await _hours_of(clickhouse, conflicts)
    return Written(rows, frozenset(hours), frozenset(conflict.id for conflict in conflicts))


async def _insert_all(clickhouse: ClickHouse, *tables: tuple[str, Sequence[Any]]) -> int:
    """No table waits for another: their order means nothing once the conflicts are known."""
    return sum(await together(*(_insert(clickhouse, table, rows) for table, rows in tables if rows)))


async def _insert(clickhouse: ClickHouse, table: str, rows: Sequence[Any]) -> int:
    return await clickhouse.insert(table, rows[0]._fields, rows) if rows else 0


def _hashes_of(batch: Batch) -> set[_Hash]:
    """Every id of the batch with its hash. A charge tells its source's too: that a charge was made from another side
    of its source than the one in `usage` is a conflict as well."""
    sources: list[UsageRow | InstanceEventRow | UnratedRow] = [*batch.usage, *batch.instance_events, *batch.unrated]
    found = {("source", source.id, source.payload_hash, source.id, source.account) for source in sources}
    for charge in batch.charges:
        event = charge.source_event
        found.add(("source", event, charge.source_hash, event, charge.account))
        found.add(("charge", charge.id, charge.payload_hash, event, charge.account))
    found.update(("price", price.id, price.payload_hash, "", "") for price in batch.prices)
    return found


async def _conflicts_after(clickhouse: ClickHouse, hashes: Collection[_Hash]) -> list[_Conflict]:
    """Write the hashes; those of their ids that have two now, anywhere in time."""
    for _ in range(_ATTEMPTS_MAX if hashes else 0):
        # The ids are not sent a second time: a question that names thousands costs more than all rows of a batch.
        number = {"batch": _batch_number()}
        await clickhouse.insert("event_hashes", _HASH_COLUMNS, [(*one, number["batch"]) for one in hashes])
        rows = await clickhouse.query(_CONFLICTS, number)
        kept = await clickhouse.query("SELECT count() FROM event_hashes WHERE batch = {batch:UInt64}", number)
        if kept == [(len(hashes),)]:
            return [_Conflict(account, event, kind, id) for kind, id, found in rows for account, event in found]
        # Another writer sends the same: a merge has left its rows in place of ours, and the question has missed those.
    if hashes:
        raise Unavailable("another warehouse writes the same events to ClickHouse at this moment")
    return []


def _batch_number() -> int:
    """Rising with time, so that the index of older rows rules them out; the rest is chance, so that no other has it."""
    return (int(time.time() * 1000) << 20) | secrets.randbits(20)


async def _hours_of(clickhouse: ClickHouse, conflicts: Iterable[_Conflict]) -> set[AccountHour]:
    """The hours that hold charges of these conflicts' source events, so far."""
    touched: set[AccountHour] = set()
    accounts = sorted({conflict.account for conflict in conflicts if conflict.source_event})
    for part in _parts({conflict.source_event for conflict in conflicts if conflict.source_event}):
        rows = await clickhouse.query(
            """
            SELECT DISTINCT account, toStartOfHour(toDateTime(event_time, 'UTC')) FROM charges
            WHERE account IN {accounts:Array(String)} AND source_event IN {events:Array(String)}
            """,
            {"accounts": accounts, "events": part},
        )
        touched |= {(account, utc(hour)) for account, hour in rows}
    return touched


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for one in ids:
        length = len(quoted(one).encode()) + 1
        if part and size + length > _IDS_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(one)
        size += length
    if part:
        yield part
