"""docs/analysts.md: every question in it is run as the analyst on known data, every column of every view is in it."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.clickhouse.client import ADMIN, ANALYST, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.progress import note_progress
from adapters.clickhouse.rows import (
    ProgressRow,
    charge_rows,
    instance_event_row,
    price_row,
    unrated_row,
    usage_row,
)
from adapters.clickhouse.writing import Batch, write
from domain.ids import instance_event_id, price_event_id
from domain.prices import PriceBook
from domain.rating import charges_for, charges_id, event_time_of, instance_charges_for
from schemas import codec, topics
from schemas.envelope import Event
from schemas.instances import BillableInterval, InstanceChanged
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed
from tests.servers.clickhouse import running_clickhouse

A, B = "u-aaaaaaaaaaaa", "u-bbbbbbbbbbbb"
SHOWN = re.compile(r"```sql\n(.*?)```", re.DOTALL)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def price(price_id: str, meter: Any, unit_price: str, **given: Any) -> PriceRecorded:
    return PriceRecorded(
        price_id=price_id,
        version=1,
        meter=meter,
        unit_price=Decimal(unit_price),
        per=3600 if meter == "instance_seconds" else 1_000_000,
        currency="CNY",
        effective_from=at("2026-01-01"),
        recorded_at=at("2026-01-01"),
        source="example",
        **given,
    )


PRICES = [
    price("deepseek-r1/input_tokens", "input_tokens", "4", model="deepseek-r1"),
    price("deepseek-r1/cached_input_tokens", "cached_input_tokens", "1", model="deepseek-r1"),
    price("deepseek-r1/output_tokens", "output_tokens", "16", model="deepseek-r1"),
    price("deepseek-v3/input_tokens", "input_tokens", "2", model="deepseek-v3"),
    price("deepseek-v3/output_tokens", "output_tokens", "8", model="deepseek-v3"),
    price("sh-02/gpu.1/instance_seconds", "instance_seconds", "3.6", region="sh-02", spec="gpu.1"),
]


def request(
    number: int, account: str, key: str, ended: str, prompt: int, output: int, **given: Any
) -> Event[TokensUsed]:
    values: dict[str, Any] = {
        "access_path": "public/deepseek-r1",
        "model": "deepseek-r1",
        "billing": "token",
        "outcome": "completed",
        "status": 200,
    }
    data = TokensUsed(
        request_id=f"cmp-{number:032x}",
        account=account,
        key_id=key,
        endpoint="chat.completions",
        streamed=True,
        received=at(ended) - timedelta(seconds=1),
        ended=at(ended),
        prompt_tokens=prompt,
        completion_tokens=output,
        **(values | given),
    )
    return codec.event(data, id=data.request_id, source="/hydra/gateway", subject=account, time=data.ended)


def ready(sequence: int, account: str, start: str, until: str, **given: Any) -> Event[InstanceChanged]:
    values: dict[str, Any] = {"instance": "i-aaaaaaaaaaaa", "access_path": f"{account}/test", "billing": "time"}
    data = InstanceChanged(
        epoch=1,
        sequence=sequence,
        state="ready",
        at=at(until),
        account=account,
        service_id="s-1",
        model="phi-4",
        region="sh-02",
        spec="gpu.1",
        interval=BillableInterval(billable_from=at(start), billable_until=at(until), period=1),
        **(values | given),
    )
    event_id = instance_event_id(data.instance, data.epoch, data.sequence)
    return codec.event(data, id=event_id, source="/hydra/lifecycle", subject=data.instance, time=event_time_of(data))


V3 = {"model": "deepseek-v3", "access_path": "public/deepseek-v3"}
CONFLICT = request(9, A, "k-1", "2026-03-02T05:00:00", 5_000_000, 0)
# (event, how long after it Kafka had it)
KNOWN: list[tuple[Event[Any], timedelta]] = [
    (request(1, A, "k-1", "2026-03-01T01:10:00", 1000, 500), timedelta(seconds=1)),
    # In Shanghai the next day already, and partly from the cache.
    (request(2, A, "k-2", "2026-03-01T16:30:00", 2000, 1000, cached_tokens=500), timedelta(seconds=1)),
    (
        request(3, A, "k-1", "2026-03-02T03:00:00", 100, 70, model="phi-4", access_path=f"{A}/test", billing="time"),
        timedelta(seconds=1),
    ),
    (
        request(4, A, "k-1", "2026-03-02T03:05:00", 0, 0, outcome="refused", status=404, model=None, billing=None),
        timedelta(seconds=1),
    ),
    (request(5, B, "k-3", "2026-03-01T01:20:00", 10_000, 0, **V3), timedelta(seconds=1)),
    # February in Shanghai, by a minute; it comes two hours later, in March.
    (request(6, B, "k-3", "2026-02-28T15:59:00", 1000, 1000, **V3), timedelta(hours=2)),
    (request(7, B, "k-3", "2026-03-02T01:20:00", 50_000, 0, **V3), timedelta(seconds=1)),
    (CONFLICT, timedelta(seconds=1)),
    (request(9, A, "k-1", "2026-03-02T05:00:00", 6_000_000, 0), timedelta(seconds=1)),
    (ready(1, A, "2026-03-02T03:00:00", "2026-03-02T03:30:00"), timedelta(seconds=1)),
    (ready(2, A, "2026-03-02T03:30:00", "2026-03-02T04:10:00"), timedelta(seconds=1)),
    (
        ready(
            1,
            "public",
            "2026-03-02T03:00:00",
            "2026-03-02T04:00:00",
            instance="i-bbbbbbbbbbbb",
            access_path="public/deepseek-r1",
            billing="operator",
        ),
        timedelta(seconds=1),
    ),
]


def batch_of(known: list[tuple[Event[Any], timedelta]], book: PriceBook) -> Batch:
    usage, instances, charges, unrated = [], [], [], []
    for event, delay in known:
        arrived = event.time + delay
        if isinstance(event.data, TokensUsed):
            usage.append(usage_row(event, arrived))
            raised = charges_for(event.data, event, book)
        else:
            instances.append(instance_event_row(event, arrived))
            raised = instance_charges_for(event.data, event, book)
        message = codec.event(
            raised, id=charges_id(raised), source="/hydra/token_charges", subject=raised.account, time=event.time
        )
        charges += charge_rows(message, arrived)
        if row := unrated_row(message, arrived):
            unrated.append(row)
    return Batch(usage=usage, instance_events=instances, charges=charges, unrated=unrated)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def analyst(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClickHouse]:
    with running_clickhouse(tmp_path_factory.mktemp("guide")) as server:
        admin = ClickHouse(ClickHouseAddress(server.url, ADMIN, server.admin_password))
        await migrate(admin, "Asia/Shanghai")
        events = [
            codec.event(
                one,
                id=price_event_id(one.price_id, 1),
                source="/hydra/billing",
                subject=one.price_id,
                time=one.recorded_at,
            )
            for one in PRICES
        ]
        batch = batch_of(KNOWN, PriceBook(PRICES))
        await write(admin, Batch(prices=[price_row(event) for event in events]))
        # Twice, as Kafka delivers when a commit was lost.
        await write(admin, batch)
        await write(admin, batch)
        noted = [
            ProgressRow(name, 0, 9, at("2026-03-02T05:00:00"), False, at("2026-03-02T05:00:01"))
            for name in (topics.USAGE.name, topics.CHARGES.name)
        ]
        await note_progress(admin, noted)
        await admin.close()
        client = ClickHouse(ClickHouseAddress(server.url, ANALYST, server.analyst_password))
        yield client
        await client.close()


def d(text: str) -> Decimal:
    return Decimal(text)


def day(number: int) -> Any:
    return datetime(2026, 3, number, tzinfo=UTC).date()


def cmp(number: int) -> str:
    return f"cmp-{number:032x}"


HOUR = "2026-03-{}:00:00"
ANSWERS: list[list[tuple[Any, ...]]] = [
    [  # 1: 1000 x 4 + 500 x 16; 1500 x 4 + 500 x 1 + 1000 x 16 and 70 minutes at 3.6 an hour; 10000 x 2; 50000 x 2
        (A, day(1), "CNY", d("0.012")),
        (A, day(2), "CNY", d("4.2225")),
        (B, day(1), "CNY", d("0.02")),
        (B, day(2), "CNY", d("0.1")),
    ],
    [  # 2
        ("phi-4", "CNY", d("4.2"), 1),
        ("deepseek-v3", "CNY", d("0.12"), 1),
        ("deepseek-r1", "CNY", d("0.0345"), 1),
    ],
    [  # 3
        ("k-2", "CNY", d("0.0225"), 1),
        ("k-1", "CNY", d("0.012"), 1),
    ],
    [  # 4
        (at(HOUR.format("01T01")), 2, 11_000, None, 500),
        (at(HOUR.format("01T16")), 1, 2000, 500, 1000),
        (at(HOUR.format("02T01")), 1, 50_000, None, 0),
        (at(HOUR.format("02T03")), 2, 100, None, 70),
    ],
    [  # 5: 0.0345 for 4500 tokens; 0.12 for 60000
        (A, "deepseek-r1", "CNY", 4500, d("7.666666666666")),
        (B, "deepseek-v3", "CNY", 60_000, d("2")),
    ],
    [  # 6
        ("sh-02", "gpu.1", "operator", 3600, 1.0, 1),
        ("sh-02", "gpu.1", "time", 4200, 1.17, 1),
    ],
    [  # 7
        ("billed_by_time", 1, 100, 70),
        ("refused", 1, 0, 0),
    ],
    [  # 8
        (A, "CNY", d("0.012"), d("4.2225"), d("4.2105")),
        (B, "CNY", d("0.02"), d("0.1"), d("0.08")),
    ],
    [  # 9
        (
            "cached_input_tokens",
            "deepseek-r1",
            "public/deepseek-r1",
            500,
            "token",
            d("1"),
            1_000_000,
            d("0.0005"),
            "CNY",
        ),
        ("input_tokens", "deepseek-r1", "public/deepseek-r1", 2500, "token", d("4"), 1_000_000, d("0.01"), "CNY"),
        ("output_tokens", "deepseek-r1", "public/deepseek-r1", 1500, "token", d("16"), 1_000_000, d("0.024"), "CNY"),
        ("instance_seconds", "phi-4", "i-aaaaaaaaaaaa", 4200, "second", d("3.6"), 3600, d("4.2"), "CNY"),
    ],
    [  # 9, its charges
        (cmp(1), "input_tokens", 1000, d("4"), 1_000_000, "deepseek-r1/input_tokens", 1, d("0.004")),
        (cmp(1), "output_tokens", 500, d("16"), 1_000_000, "deepseek-r1/output_tokens", 1, d("0.008")),
        (cmp(2), "cached_input_tokens", 500, d("1"), 1_000_000, "deepseek-r1/cached_input_tokens", 1, d("0.0005")),
        (cmp(2), "input_tokens", 1500, d("4"), 1_000_000, "deepseek-r1/input_tokens", 1, d("0.006")),
        (cmp(2), "output_tokens", 1000, d("16"), 1_000_000, "deepseek-r1/output_tokens", 1, d("0.016")),
    ],
    [  # 10
        (
            "charge",
            B,
            f"{cmp(6)}/input_tokens/20260228T155900000000Z/1",
            at("2026-02-28T15:59:00"),
            7200,
            "2026-02",
            True,
        ),
        (
            "charge",
            B,
            f"{cmp(6)}/output_tokens/20260228T155900000000Z/1",
            at("2026-02-28T15:59:00"),
            7200,
            "2026-02",
            True,
        ),
        ("usage", B, cmp(6), at("2026-02-28T15:59:00"), 7200, "2026-02", True),
    ],
    [  # conflicts: the request, and the charge that was made of each of its sides
        ("charge", f"{cmp(9)}/input_tokens/20260302T050000000000Z/1", cmp(9), A, 2),
        ("source", cmp(9), cmp(9), A, 2),
    ],
    [  # how far
        ("hydra.charges", at("2026-03-02T05:00:00")),
        ("hydra.usage", at("2026-03-02T05:00:00")),
    ],
]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_question_has_its_hand_computed_answer(analyst: ClickHouse, project_root: Path) -> None:
    questions = SHOWN.findall((project_root / "docs/analysts.md").read_text())
    assert len(questions) == len(ANSWERS)
    for question, wanted in zip(questions, ANSWERS, strict=True):
        assert await analyst.query(question) == wanted, question


@pytest.mark.asyncio(loop_scope="module")
async def test_every_column_of_every_view_is_described(analyst: ClickHouse, project_root: Path) -> None:
    guide = (project_root / "docs/analysts.md").read_text()
    views = await analyst.query(
        "SELECT name, comment FROM system.tables WHERE database = 'hydra' AND engine = 'View' ORDER BY name"
    )
    described = []
    for view, comment in views:
        described += [f"### `{view}`", "", f"{comment}.", "", "| column | type | what it is |", "|---|---|---|"]
        columns = await analyst.query(
            "SELECT name, type, comment FROM system.columns WHERE database = 'hydra' AND table = {view:String}"
            " ORDER BY position",
            {"view": view},
        )
        described += [f"| `{name}` | {type_} | {text.replace('|', '&#124;')} |" for name, type_, text in columns] + [""]
    wanted = "\n".join(described).strip()
    assert guide.partition("## The views, column by column\n")[2].strip() == wanted
