"""Writing a batch: hashes first, then conflicts, then the rows, so that a conflict is known before its second side can
be read.

The order makes a crash harmless: what is missing comes again with the batch, and every table takes repeats. Two
writers at once are safe too: each notes its hashes before it looks for others, so the later one sees both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from adapters.clickhouse.text_array import TextArray
from adapters.clickhouse.waiting import together
from domain.calendar import hour_start, utc

AccountHour = tuple[str, datetime]
"""An account and the beginning of a UTC hour of event time."""

# ClickHouse takes a parameter of at most 128 KiB.
_IDS_BYTES_MAX = 90_000


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


_HASH_COLUMNS = ("kind", "id", "payload_hash", "source_event", "account")
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
    hashes = _hashes_of(batch)
    if hashes:
        await clickhouse.insert("event_hashes", _HASH_COLUMNS, list(hashes))
    conflicts = await _conflicts_among(clickhouse, hashes)
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


async def _conflicts_among(clickhouse: ClickHouse, hashes: Iterable[_Hash]) -> list[_Conflict]:
    """Those of these ids that have two hashes, anywhere in time."""
    ids: dict[str, set[str]] = {}
    for kind, id, *_ in hashes:
        ids.setdefault(kind, set()).add(id)
    asked = [_conflicts_of(clickhouse, kind, part) for kind, found in ids.items() for part in _parts(found)]
    return [conflict for found in await together(*asked) for conflict in found]


async def _conflicts_of(clickhouse: ClickHouse, kind: str, ids: Sequence[str]) -> list[_Conflict]:
    # One pass over the ids: nearly never is there anything to find.
    rows = await clickhouse.query(
        """
        SELECT id, groupUniqArray((account, source_event)) FROM event_hashes
        WHERE kind = {kind:String} AND id IN {ids:Array(String)}
        GROUP BY id HAVING min(payload_hash) != max(payload_hash)
        """,
        {"kind": kind, "ids": TextArray.of(ids)},
    )
    return [_Conflict(account, source_event, kind, id) for id, found in rows for account, source_event in found]


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
        if part and size + len(one) > _IDS_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one) + 3
    if part:
        yield part
