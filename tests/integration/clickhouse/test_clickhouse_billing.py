"""What the billing API reads: pages without gaps or repeats, bills that add up, each of one account alone."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from adapters.clickhouse.billing_questions import Cursor, bill, charge_page, prices, usage_page
from adapters.clickhouse.client import ClickHouse, ClickHouseAddress
from adapters.clickhouse.progress import as_of, has_written, note_progress, progress
from adapters.clickhouse.rows import PriceRow, ProgressRow
from adapters.clickhouse.writing import Batch, write
from adapters.errors import Rejected, Unavailable
from domain.calendar import month_bounds
from schemas import topics
from tests.integration.clickhouse.conftest import NOON, charge_row, unrated_row, usage_row

START, END = NOON - timedelta(days=1), NOON + timedelta(days=1)


async def test_pages_have_no_gaps_and_no_repeats(clickhouse: ClickHouse) -> None:
    # Several of one instant, so that the id must carry the cursor on.
    times = [NOON + timedelta(microseconds=number // 3) for number in range(20)]
    usage = [usage_row(f"cmp-{number:02}", event_time=time) for number, time in enumerate(times)]
    charges = [charge_row(f"c-{row.id}", row.id, event_time=row.event_time) for row in usage]
    others = [usage_row("cmp-of-another", account="u-2")]
    await write(clickhouse, Batch(usage=[*usage, *usage[:7], *others], charges=[*charges, *charges[:7]]))
    for ask, wanted in ((usage_page, [row.id for row in usage]), (charge_page, [row.id for row in charges])):
        seen: list[str] = []
        after: Cursor | None = None
        while True:
            page = await ask(clickhouse, "u-1", START, END, after=after, limit=6)
            seen += [row["id"] for row in page.rows]
            if page.next is None:
                break
            after = page.next
        assert seen == wanted


async def test_an_interval_is_half_open(clickhouse: ClickHouse) -> None:
    await write(clickhouse, Batch(usage=[usage_row("cmp-1", event_time=START), usage_row("cmp-2", event_time=END)]))
    page = await usage_page(clickhouse, "u-1", START, END)
    assert [row["id"] for row in page.rows] == ["cmp-1"]


async def test_every_request_shows_its_charges_or_the_reason_for_none(clickhouse: ClickHouse) -> None:
    ids = ("charged", "refused", "waiting", "priced-later", "conflict")
    await write(
        clickhouse,
        Batch(
            usage=[*(usage_row(id) for id in ids), usage_row("conflict", payload_hash="another")],
            charges=[
                charge_row("c-1", "charged", amount=Decimal("1.25")),
                charge_row("c-2", "charged", meter="output_tokens", amount=Decimal("2")),
                charge_row("c-3", "priced-later", amount=Decimal("3")),
                charge_row("c-4", "conflict", amount=Decimal("4")),
            ],
            unrated=[unrated_row("refused", "refused"), unrated_row("priced-later", "unpriced")],
        ),
    )
    page = await usage_page(clickhouse, "u-1", START, END)
    shown = {row["id"]: (row["unbilled"], [(c["amount"], c["charges"]) for c in row["charges"]]) for row in page.rows}
    assert shown == {
        "charged": (None, [(Decimal("3.25"), 2)]),
        "refused": ("refused", []),
        "waiting": ("pending", []),
        "priced-later": (None, [(Decimal("3"), 1)]),
        "conflict": ("conflict", []),
    }
    assert [row["id"] for row in page.rows].count("conflict") == 2


async def test_a_bill_is_of_a_month_of_the_time_zone_and_adds_up(clickhouse: ClickHouse) -> None:
    from zoneinfo import ZoneInfo

    march = month_bounds("2026-03", ZoneInfo("Asia/Shanghai"))
    instance = {"meter": "instance_seconds", "unit": "second", "per": 3600, "resource": "i-9", "spec": "gpu.1"}
    await write(
        clickhouse,
        Batch(
            charges=[
                charge_row(
                    "c-1", "e-1", event_time=datetime(2026, 2, 28, 16, tzinfo=UTC), amount=Decimal("0.000000000001")
                ),
                charge_row(
                    "c-2", "e-2", event_time=datetime(2026, 3, 31, 15, 59, 59, 999_999, tzinfo=UTC), amount=Decimal("1")
                ),
                charge_row("c-3", "e-3", event_time=datetime(2026, 3, 31, 16, tzinfo=UTC), amount=Decimal("500")),
                charge_row("c-4", "e-4", amount=Decimal("2"), unit_price=Decimal(5)),
                charge_row("c-5", "e-5", amount=Decimal("3"), **instance),
                charge_row("c-6", "e-6", amount=Decimal("7"), currency="USD"),
                charge_row("c-7", "e-7", amount=Decimal("900"), account="u-2"),
            ]
        ),
    )
    made = await bill(clickhouse, "u-1", *march)
    assert [
        (line["meter"], line["unit_price"], line["quantity"], line["amount"], line["currency"]) for line in made.lines
    ] == [
        ("instance_seconds", Decimal(4), 10, Decimal(3), "CNY"),
        ("input_tokens", Decimal(4), 20, Decimal("1.000000000001"), "CNY"),
        ("input_tokens", Decimal(4), 10, Decimal(7), "USD"),
        ("input_tokens", Decimal(5), 10, Decimal(2), "CNY"),
    ]
    assert made.totals == {"CNY": Decimal("6.000000000001"), "USD": Decimal(7)}
    assert made.by_model == {("m", "CNY"): Decimal("6.000000000001"), ("m", "USD"): Decimal(7)}
    assert made.by_resource == {
        ("i-9", "CNY"): Decimal(3),
        ("public/m", "CNY"): Decimal("3.000000000001"),
        ("public/m", "USD"): Decimal(7),
    }


async def test_an_account_is_never_more_than_a_value(clickhouse: ClickHouse) -> None:
    await write(clickhouse, Batch(charges=[charge_row("c-1", "e-1")]))
    page = await charge_page(clickhouse, "x' OR '1' = '1", START, END)
    assert page.rows == []


@pytest.mark.parametrize("limit", [0, 1_001])
async def test_a_page_is_bounded(clickhouse: ClickHouse, limit: int) -> None:
    with pytest.raises(ValueError, match="a page has"):
        await usage_page(clickhouse, "u-1", START, END, limit=limit)


async def test_prices_are_told_with_every_version(clickhouse: ClickHouse) -> None:
    def price(version: int, unit_price: str, until: datetime | None) -> PriceRow:
        return PriceRow(
            id=f"m/input_tokens@{version}",
            payload_hash=f"h{version}",
            price_id="m/input_tokens",
            version=version,
            meter="input_tokens",
            unit_price=Decimal(unit_price),
            per=1_000_000,
            currency="CNY",
            effective_from=START,
            effective_until=until,
            recorded_at=START,
            source="example",
            model="m",
            region="",
            spec="",
        )

    await write(clickhouse, Batch(prices=[price(2, "0.000001", None), price(1, "4", NOON), price(1, "4", NOON)]))
    told = await prices(clickhouse)
    assert [(row["version"], row["unit_price"], row["effective_until"]) for row in told] == [
        (1, Decimal(4), NOON),
        (2, Decimal("0.000001"), None),
    ]


async def test_as_of_is_the_slowest_partition(clickhouse: ClickHouse) -> None:
    assert await as_of(clickhouse) is None
    names = (topics.USAGE.name, topics.INSTANCES.name, topics.CHARGES.name)

    def noted(name: str, event_time: datetime | None, caught_up: bool, partition: int = 0) -> ProgressRow:
        return ProgressRow(name, partition, 5, event_time, caught_up, NOON)

    await note_progress(clickhouse, [noted(name, None, True) for name in names])
    assert await as_of(clickhouse) == NOON
    behind = NOON - timedelta(minutes=3)
    await note_progress(clickhouse, [noted(names[0], behind, False, partition=1)])
    assert await as_of(clickhouse) == behind
    await note_progress(clickhouse, [noted(names[1], None, False, partition=1)])
    assert await as_of(clickhouse) is None
    assert (await progress(clickhouse))[names[0], 1] == noted(names[0], behind, False, partition=1)
    assert await has_written(clickhouse, names[0], 1)
    assert not await has_written(clickhouse, names[0], 2)


async def test_a_value_that_fits_no_column_is_rejected_and_nothing_else_is_blamed(clickhouse: ClickHouse) -> None:
    with pytest.raises(Rejected):
        await write(clickhouse, Batch(charges=[charge_row("c-1", "e-1", quantity=-1)]))
    with pytest.raises(Rejected):
        await write(clickhouse, Batch(charges=[charge_row("c-1", "e-1", amount=Decimal(10) ** 27)]))


async def test_a_clickhouse_that_is_away_is_unavailable(address: ClickHouseAddress) -> None:
    away = ClickHouse(ClickHouseAddress("http://127.0.0.1:1", address.user, address.password))
    with pytest.raises(Unavailable):
        await away.query("SELECT 1")
    assert not await away.ready()
    stranger = ClickHouse(ClickHouseAddress(address.url, address.user, "wrong"))
    with pytest.raises(Unavailable, match="Authentication failed"):
        await stranger.query("SELECT 1")
