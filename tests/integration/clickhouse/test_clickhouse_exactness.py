"""Totals are exact whatever is repeated, replayed, reordered or in conflict: against an oracle that shares no code."""

import asyncio
import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext

import pytest

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.rows import ChargeRow, InstanceEventRow, UnratedRow, UsageRow
from adapters.clickhouse.spend_totals import hour_totals
from adapters.clickhouse.writing import Batch, Written, write
from tests.integration.clickhouse.conftest import NOON, charge_row, instance_row, unrated_row, usage_row

pytestmark = pytest.mark.bills

Row = UsageRow | ChargeRow | UnratedRow | InstanceEventRow
Hour = tuple[str, datetime]
SHANGHAI = timedelta(hours=8)
BEGIN = datetime(2026, 1, 15, tzinfo=UTC)


def batch_of(rows: list[Row]) -> Batch:
    return Batch(
        usage=[row for row in rows if isinstance(row, UsageRow)],
        charges=[row for row in rows if isinstance(row, ChargeRow)],
        unrated=[row for row in rows if isinstance(row, UnratedRow)],
        instance_events=[row for row in rows if isinstance(row, InstanceEventRow)],
    )


def random_history(dice: random.Random) -> list[Row]:
    """Requests and instance intervals over three months, some of them with a second side."""
    history: list[Row] = []
    for number in range(150):
        source, account = f"cmp-{number}", dice.choice(["u-1", "u-2", "public"])
        time = BEGIN + timedelta(seconds=dice.randrange(90 * 86_400), microseconds=dice.randrange(10**6))
        history.append(usage_row(source, account=account, event_time=time))
        if dice.random() < 0.2:
            history.append(unrated_row(source, dice.choice(["refused", "unpriced"]), account=account, event_time=time))
        if dice.random() < 0.85:
            for meter in ("input_tokens", "output_tokens"):
                amount = Decimal(dice.randrange(10**18)).scaleb(-12)
                history.append(
                    charge_row(
                        f"{source}/{meter}",
                        source,
                        account=account,
                        event_time=time,
                        meter=meter,
                        quantity=dice.randrange(1, 10**6),
                        amount=amount,
                        currency=dice.choice(["CNY", "CNY", "USD"]),
                    )
                )
    for number in range(40):
        start = BEGIN + timedelta(seconds=dice.randrange(90 * 86_400))
        history.append(instance_row(f"i-{number}-1-1", start, dice.randrange(1, 61), instance=f"i-{number % 7}"))
    return history + [second_side(dice, row) for row in history if dice.random() < 0.05]


def second_side(dice: random.Random, row: Row) -> Row:
    """The same id with another hash, at times in another month; or a charge of another side of its source."""
    if isinstance(row, ChargeRow) and dice.random() < 0.3:
        return row._replace(id=f"{row.id}/other", source_hash="another side of the source")
    other = row._replace(payload_hash=f"{row.payload_hash}, another")
    if dice.random() < 0.5:
        other = other._replace(event_time=row.event_time + timedelta(days=dice.choice([1, 40])))
    return other


def random_batches(dice: random.Random, history: list[Row]) -> list[Batch]:
    """Everything at least once, in any order, some of it twice; some batches wholly again."""
    deliveries = history + dice.sample(history, len(history) // 3)
    dice.shuffle(deliveries)
    batches = []
    while deliveries:
        size = dice.randrange(1, 80)
        batches.append(batch_of(deliveries[:size]))
        deliveries = deliveries[size:]
    return batches + dice.sample(batches, len(batches) // 3)


class Oracle:
    """What must come out, by plain counting over what was meant."""

    def __init__(self, history: list[Row]) -> None:
        hashes: dict[tuple[str, str], set[str]] = defaultdict(set)
        source_of: dict[tuple[str, str], str] = {}
        for row in history:
            if isinstance(row, ChargeRow):
                hashes["source", row.source_event].add(row.source_hash)
                hashes["charge", row.id].add(row.payload_hash)
                source_of["charge", row.id] = row.source_event
                source_of["source", row.source_event] = row.source_event
            else:
                hashes["source", row.id].add(row.payload_hash)
                source_of["source", row.id] = row.id
        self.conflicting = {key for key, sides in hashes.items() if len(sides) > 1}
        self.left_out = {source_of[key] for key in self.conflicting}
        self.charges = list(
            {r: None for r in history if isinstance(r, ChargeRow) and r.source_event not in self.left_out}
        )
        self.usage = {r.id for r in history if isinstance(r, UsageRow) and r.id not in self.left_out}
        charged = {row.source_event for row in self.charges}
        self.unbilled = {
            r.id: r.reason
            for r in history
            if isinstance(r, UnratedRow)
            and r.id not in self.left_out
            and not (r.reason == "unpriced" and r.id in charged)
        }
        self.seconds: Counter[tuple[str, date]] = Counter()
        for event in {r: None for r in history if isinstance(r, InstanceEventRow) and r.id not in self.left_out}:
            assert event.billable_from is not None
            self.seconds[event.instance, (event.billable_from + SHANGHAI).date()] += event.billable_seconds

    def hourly(self) -> dict[tuple[str, datetime, str], Decimal]:
        totals: dict[tuple[str, datetime, str], Decimal] = defaultdict(Decimal)
        with localcontext(prec=60):
            for row in self.charges:
                hour = row.event_time.replace(minute=0, second=0, microsecond=0)
                totals[row.account, hour, row.currency] += row.amount
        return dict(totals)

    def daily(self) -> dict[tuple[str, date, str], Decimal]:
        totals: dict[tuple[str, date, str], Decimal] = defaultdict(Decimal)
        with localcontext(prec=60):
            for row in self.charges:
                totals[row.account, (row.event_time + SHANGHAI).date(), row.currency] += row.amount
        return dict(totals)

    def monthly(self) -> dict[tuple[str, str, str, str], tuple[int, Decimal]]:
        totals: dict[tuple[str, str, str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal()))
        with localcontext(prec=60):
            for row in self.charges:
                key = (row.account, f"{row.event_time + SHANGHAI:%Y-%m}", row.meter, row.currency)
                quantity, amount = totals[key]
                totals[key] = (quantity + row.quantity, amount + row.amount)
        return dict(totals)


async def deliver(clickhouse: ClickHouse, batches: list[Batch]) -> dict[Hour, dict[str, Decimal]]:
    """Write each batch and state the hours that it says may have changed: the last statement of each hour."""
    stated: dict[Hour, dict[str, Decimal]] = {}
    for batch in batches:
        written = await write(clickhouse, batch)
        stated |= await hour_totals(clickhouse, written.hours)
    return stated


@pytest.mark.parametrize("seed", range(6))
async def test_views_equal_the_oracle(clickhouse: ClickHouse, seed: int) -> None:
    dice = random.Random(seed)
    history = random_history(dice)
    oracle = Oracle(history)
    assert oracle.left_out and oracle.charges
    stated = await deliver(clickhouse, random_batches(dice, history))

    hourly = await clickhouse.query("SELECT account, hour, currency, toString(amount) FROM v_spend_hourly")
    assert {(a, h, c): Decimal(amount) for a, h, c, amount in hourly} == oracle.hourly()
    assert {(a, h, c): amount for (a, h), by in stated.items() for c, amount in by.items()} == oracle.hourly()
    daily = await clickhouse.query("SELECT account, day, currency, toString(amount) FROM v_spend_daily")
    assert {(a, d, c): Decimal(amount) for a, d, c, amount in daily} == oracle.daily()
    lines = await clickhouse.query(
        "SELECT account, month, meter, currency, quantity, toString(amount) FROM v_bill_lines"
    )
    assert {(a, m, meter, c): (q, Decimal(amount)) for a, m, meter, c, q, amount in lines} == oracle.monthly()
    usage = await clickhouse.query("SELECT id FROM v_usage")
    assert sorted(id for (id,) in usage) == sorted(oracle.usage)
    assert dict(await clickhouse.query("SELECT id, reason FROM v_unbilled_usage")) == oracle.unbilled
    seconds = await clickhouse.query("SELECT instance, day, sum(seconds) FROM v_instance_hours GROUP BY instance, day")
    assert {(i, d): s for i, d, s in seconds} == dict(oracle.seconds)
    conflicts = await clickhouse.query("SELECT kind, id, uniqExact(payload_hash) FROM conflicts GROUP BY kind, id")
    assert {(kind, id) for kind, id, _ in conflicts} == oracle.conflicting
    assert all(sides == 2 for _, _, sides in conflicts)


async def test_after_everything_is_merged_the_answer_is_the_same(clickhouse: ClickHouse) -> None:
    dice = random.Random(99)
    history = random_history(dice)
    await deliver(clickhouse, random_batches(dice, history))
    for table in ("charges", "event_hashes", "conflicting_events"):
        await clickhouse.command(f"OPTIMIZE TABLE {table} FINAL")
    hourly = await clickhouse.query("SELECT account, hour, currency, toString(amount) FROM v_spend_hourly")
    assert {(a, h, c): Decimal(amount) for a, h, c, amount in hourly} == Oracle(history).hourly()


async def test_two_writers_of_two_sides_both_leave_the_conflict_known(clickhouse: ClickHouse) -> None:
    sides = [
        Batch(usage=[usage_row("cmp-1", payload_hash=side)], charges=[charge_row("c-1", "cmp-1", source_hash=side)])
        for side in ("one", "other")
    ]
    written: list[Written] = await asyncio.gather(*(write(clickhouse, side) for side in sides))
    assert any("cmp-1" in one.conflicts for one in written)
    assert await clickhouse.query("SELECT count() FROM v_charges") == [(0,)]


async def test_a_conflict_touches_the_hours_of_all_charges_of_its_source(clickhouse: ClickHouse) -> None:
    """A conflict that shows in the usage alone changes hours that no charge of its batch names."""
    hour = NOON.replace(minute=0)
    first = await write(clickhouse, Batch(usage=[usage_row("cmp-1")], charges=[charge_row("c-1", "cmp-1")]))
    assert first.hours == {("u-1", hour)}
    second = await write(clickhouse, Batch(usage=[usage_row("cmp-1", payload_hash="another")]))
    assert second.hours == {("u-1", hour)}
    assert second.conflicts == {"cmp-1"}
    assert await hour_totals(clickhouse, second.hours) == {("u-1", hour): {}}


async def test_a_conflict_is_found_whatever_characters_its_id_has(clickhouse: ClickHouse) -> None:
    ids = ["it's", "back\\slash", "','", "plain"]
    for side in ("one", "other"):
        written = await write(clickhouse, Batch(usage=[usage_row(id, payload_hash=side) for id in ids]))
    assert written.conflicts == set(ids)


async def test_the_copy_that_arrived_first_stays(clickhouse: ClickHouse) -> None:
    for seconds in (60, 1, 3600):
        await write(clickhouse, Batch(usage=[usage_row("cmp-1", arrived_at=NOON + timedelta(seconds=seconds))]))
    assert await clickhouse.query("SELECT arrived_at FROM v_usage") == [(NOON + timedelta(seconds=1),)]


async def test_sums_do_not_wrap(clickhouse: ClickHouse) -> None:
    largest = Decimal("99999999999999999999999999.999999999999")
    charges = [charge_row(f"c-{n}", f"cmp-{n}", amount=largest, quantity=2**64 - 1) for n in range(3)]
    await write(clickhouse, Batch(charges=charges))
    with localcontext(prec=60):
        wanted = [(3 * (2**64 - 1), str(3 * largest))]
    assert await clickhouse.query("SELECT quantity, toString(amount) FROM v_bill_lines") == wanted
    hour = ("u-1", NOON)
    with localcontext(prec=60):
        assert await hour_totals(clickhouse, [hour]) == {hour: {"CNY": 3 * largest}}
