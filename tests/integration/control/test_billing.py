"""Billing over HTTP at a real process, its prices on real Kafka, its answers from the real ClickHouse engine."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from adapters.clickhouse import rows
from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.found_access import FoundAccess, keep
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.progress import BILLED_TOPICS, note_progress
from adapters.clickhouse.reader_limits import BILLING_LIMITS
from adapters.clickhouse.writing import Batch, write
from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain.ids import key_hash, masked_key
from domain.prices import PriceBook
from domain.rating import charges_for, charges_id, instance_charges_for
from schemas import codec
from schemas.accounts import AccountState, ApiKeyState, Scope
from schemas.charges import ChargesRaised
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.topics import ACCOUNTS, API_KEYS
from schemas.usage import TokensUsed
from services.billing.questions import unbilled_usage
from tests.builders import billing_events as build
from tests.servers.clickhouse import ClickHouseProcess
from tests.servers.clickhouse_with_users import server_with_users
from tests.servers.control_process import ControlProcess, running_control
from tests.servers.kafka import running_kafka

ACCOUNT, OTHER = build.ACCOUNT, "u-ffffffffffff"
KEY, NARROW_KEY = "sk-" + "b" * 43, "sk-" + "n" * 43
MONTH = "2026-11"
MIDNIGHT = datetime(2026, 11, 30, 16, tzinfo=UTC)
"""When December begins in Shanghai."""
LAST = timedelta(microseconds=1)
HOURLY = build.hour_price("9", recorded_at=build.LONG_AGO)
PRICES = PriceBook([*build.deepseek_prices()[::2], HOURLY])


def usages() -> list[TokensUsed]:
    at = build.NOON
    return [
        build.usage(1, prompt_tokens=1_000_000, completion_tokens=500_000),
        build.usage(2, ended=at + timedelta(seconds=1), prompt_tokens=1, completion_tokens=1, cached_tokens=None),
        build.usage(3, ended=at + timedelta(seconds=2), outcome="engine_lost", status=502),
        build.usage(4, ended=at + timedelta(seconds=3), billing="time", access_path=f"{ACCOUNT}/test"),
        build.usage(
            5, ended=MIDNIGHT - timedelta(microseconds=1), prompt_tokens=10, completion_tokens=0, cached_tokens=0
        ),
        build.usage(6, ended=MIDNIGHT, prompt_tokens=77, completion_tokens=0, cached_tokens=0),
        build.usage(7, account=OTHER, prompt_tokens=5, completion_tokens=5, cached_tokens=None),
        build.usage(8, ended=at + timedelta(seconds=4), access_path='=cmd|"x"', outcome="refused", status=404),
    ]


def _raised(data: ChargesRaised, source: Event[Any]) -> Event[ChargesRaised]:
    return codec.event(data, id=charges_id(data), source="/test", subject=data.account, time=source.time)


async def fill(clickhouse: ClickHouse) -> None:
    """What the warehouse would have written."""
    arrived = build.NOON + timedelta(seconds=30)
    used = [build.usage_event(data) for data in usages()]
    ran = [build.instance_event(_instance(hour)) for hour in (0, 1)]
    events = [_raised(charges_for(event.data, event, PRICES), event) for event in used]
    events += [_raised(instance_charges_for(event.data, event, PRICES), event) for event in ran]
    unrated = [row for event in events if (row := rows.unrated_row(event, arrived))]
    await write(
        clickhouse,
        Batch(
            usage=[rows.usage_row(event, arrived) for event in used],
            instance_events=[rows.instance_event_row(event, arrived) for event in ran],
            charges=[row for event in events for row in rows.charge_rows(event, arrived)],
            unrated=unrated,
        ),
    )
    noted = [
        rows.ProgressRow(topic, number, 1, arrived, True, arrived) for topic in BILLED_TOPICS for number in range(4)
    ]
    await note_progress(clickhouse, noted)


def _instance(hour: int) -> InstanceChanged:
    start = build.NOON + timedelta(hours=hour)
    return build.instance(start, start + timedelta(minutes=20), sequence=hour + 1)


async def publish_keys(kafka: str) -> None:
    async with EventProducer(kafka) as producer:
        for account in (ACCOUNT, OTHER):
            state = AccountState(
                account=account, version=1, name="a", status="active", created=build.NOON, currency="CNY"
            )
            event = codec.event(state, id=f"{account}@1", source="/test", subject=account, time=build.NOON)
            await producer.publish(ACCOUNTS, account, codec.encode(event))
        scopes: tuple[tuple[str, str, tuple[Scope, ...]], ...] = (
            ("k-000000000001", KEY, ("billing",)),
            ("k-000000000002", NARROW_KEY, ("inference",)),
        )
        for key_id, key, held in scopes:
            made = ApiKeyState(
                key_id=key_id,
                version=1,
                account=ACCOUNT,
                name="k",
                key_hash=key_hash(key),
                masked=masked_key(key),
                scopes=held,
                status="active",
                created=build.NOON,
            )
            event2 = codec.event(made, id=f"{key_id}@1", source="/test", subject=key_id, time=build.NOON)
            await producer.publish(API_KEYS, key_id, codec.encode(event2))


async def prepare(kafka: str, address: ClickHouseAddress) -> None:
    await create_topics(kafka)
    clickhouse = ClickHouse(address)
    await migrate(clickhouse, "Asia/Shanghai")
    await fill(clickhouse)
    await publish_keys(kafka)
    await clickhouse.close()


@dataclass(frozen=True)
class Stored:
    """Where all is that billing tells of."""

    kafka: str
    database: str


@pytest.fixture(scope="module")
def stored(clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("billing")
    database = f"t_{uuid4().hex[:12]}"
    address = ClickHouseAddress.with_password_file(
        clickhouse_server.url, ADMIN, clickhouse_server.admin_password_file, database
    )
    # A Kafka of its own: whatever stands on hydra.prices must be in the price text.
    with running_kafka(folder / "kafka") as kafka:
        asyncio.run(prepare(kafka.node.bootstrap, address))
        yield Stored(kafka.node.bootstrap, database)


@pytest.fixture(scope="module")
def billing(clickhouse_server: ClickHouseProcess, stored: Stored) -> Iterator[ControlProcess]:
    where = {"HYDRA_CLICKHOUSE_URL": clickhouse_server.url, "HYDRA_CLICKHOUSE_DATABASE": stored.database}
    with running_control("billing", clickhouse_server.home, stored.kafka, **where) as running:
        yield running


@pytest.fixture
async def customer(billing: ControlProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=billing.url, headers=headers, timeout=60) as client:
        yield client


@dataclass(frozen=True)
class Line:
    meter: str
    resource: str
    quantity: int
    amount: Decimal


def lines(answer: dict[str, Any]) -> list[Line]:
    return [
        Line(line["meter"], line["resource"], line["quantity"], Decimal(line["amount"])) for line in answer["lines"]
    ]


async def test_the_bill_of_a_month_has_every_line_and_its_totals(customer: httpx.AsyncClient) -> None:
    bill = (await customer.get("/v1/bill", params={"month": MONTH})).json()
    assert lines(bill) == [
        Line("input_tokens", "public/deepseek-r1", 1_000_011, Decimal("4.000044")),
        Line("output_tokens", "public/deepseek-r1", 500_001, Decimal("8.000016")),
        Line("instance_seconds", "i-0123456789ab", 2_400, Decimal("6")),
    ]
    first = bill["lines"][0]
    assert (first["unit_price"], first["per"], first["unit"], first["currency"], first["amount"]) == (
        "4",
        1_000_000,
        "token",
        "CNY",
        "4.000044",
    )
    assert bill["totals"] == {
        "overall": [{"amount": "18.00006", "currency": "CNY"}],
        "by_model": [
            {"amount": "12.00006", "currency": "CNY", "model": "deepseek-r1"},
            {"amount": "6", "currency": "CNY", "model": "qwen2-0.5b-instruct"},
        ],
        "by_resource": [
            {"amount": "6", "currency": "CNY", "resource": "i-0123456789ab"},
            {"amount": "12.00006", "currency": "CNY", "resource": "public/deepseek-r1"},
        ],
    }
    assert (bill["account"], bill["month"], bill["time_zone"]) == (ACCOUNT, MONTH, "Asia/Shanghai")
    assert (bill["from"], bill["until"]) == ("2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z")
    assert bill["as_of"] is not None


async def test_a_month_ends_where_the_platforms_time_zone_says(customer: httpx.AsyncClient) -> None:
    bill = (await customer.get("/v1/bill", params={"month": "2026-12"})).json()
    assert [(line.meter, line.quantity) for line in lines(bill)] == [("input_tokens", 77)]


async def test_usage_of_an_interval_tells_what_was_not_charged_and_why(customer: httpx.AsyncClient) -> None:
    query = {"from": build.NOON.isoformat(), "until": (build.NOON + timedelta(minutes=1)).isoformat()}
    usage = (await customer.get("/v1/usage", params=query)).json()
    assert [(line.meter, line.quantity) for line in lines(usage)] == [
        ("input_tokens", 1_000_001),
        ("output_tokens", 500_001),
        ("instance_seconds", 1_200),
    ]
    assert [(row["reason"], row["resource"], row["requests"]) for row in usage["unbilled"]] == [
        ("billed_by_time", f"{ACCOUNT}/test", 1),
        ("engine_lost", "public/deepseek-r1", 1),
        ("refused", '=cmd|"x"', 1),
    ]
    assert usage["unbilled_truncated"] is False


async def test_more_unbilled_sums_than_are_shown_are_told(clickhouse_server: ClickHouseProcess) -> None:
    password_file = clickhouse_server.admin_password_file
    address = ClickHouseAddress.with_password_file(clickhouse_server.url, ADMIN, password_file, f"t_{uuid4().hex[:12]}")
    clickhouse = ClickHouse(address)
    await migrate(clickhouse, "Asia/Shanghai")
    await fill(clickhouse)
    until = build.NOON + timedelta(minutes=1)
    for rows_max, count in ((2, 2), (3, 3)):
        sums, truncated = await unbilled_usage(clickhouse, ACCOUNT, build.NOON, until, rows_max=rows_max)
        assert (len(sums), truncated) == (count, rows_max < 3)
    await clickhouse.close()


async def test_pages_of_requests_have_each_once_with_its_charges_or_the_reason(customer: httpx.AsyncClient) -> None:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"from": "2026-11-01T00:00:00Z", "until": "2026-12-02T00:00:00+08:00", "limit": 2}
    while True:
        page = (await customer.get("/v1/requests", params=query)).json()
        assert len(page["data"]) <= 2
        found += page["data"]
        if not page["next_cursor"]:
            break
        query["cursor"] = page["next_cursor"]
    mine = [data for data in usages() if data.account == ACCOUNT]
    assert [row["id"] for row in found] == [data.request_id for data in sorted(mine, key=lambda data: data.ended)]
    by_id = {int(row["id"][4:], 16): row for row in found}
    assert [(entry["amount"], entry["currency"]) for entry in by_id[1]["charges"]] == [("12", "CNY")]
    assert by_id[1]["unbilled"] is None
    assert [by_id[number]["unbilled"] for number in (3, 4, 8)] == ["engine_lost", "billed_by_time", "refused"]
    assert (by_id[2]["cached_tokens"], by_id[1]["cached_tokens"]) == (None, 200)


async def test_charges_explain_themselves(customer: httpx.AsyncClient) -> None:
    query = {"month": MONTH, "source": build.usage(1).request_id}
    charges = (await customer.get("/v1/charges", params=query)).json()["data"]
    assert {charge["meter"] for charge in charges} == {"input_tokens", "output_tokens"}
    for charge in charges:
        assert charge["source_event"] == query["source"]
        exact = Decimal(charge["quantity"]) * Decimal(charge["unit_price"]) / charge["per"]
        assert Decimal(charge["amount"]) == exact
        assert (charge["price_id"], charge["price_version"]) == (f"deepseek-r1/{charge['meter']}", 1)


async def test_csv_has_the_same_rows(customer: httpx.AsyncClient) -> None:
    for path, name in (
        ("/v1/bill", "lines"),
        ("/v1/usage", "lines"),
        ("/v1/charges", "data"),
        ("/v1/requests", "data"),
    ):
        query = {"month": MONTH}
        rows_of_json = (await customer.get(path, params=query)).json()[name]
        answer = await customer.get(path, params=query, headers={"Accept": "text/csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["x-as-of"]
        rows_of_csv = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(rows_of_csv) == len(rows_of_json) > 0
        for written, known in zip(rows_of_csv, rows_of_json, strict=True):
            for column in ("quantity", "amount", "currency", "id", "meter"):
                assert written.get(column, "") == str(known.get(column, ""))
    # What a spreadsheet would run is text.
    paths = [row["access_path"] for row in csv.DictReader(io.StringIO(answer.text))]
    assert '\'=cmd|"x"' in paths


async def test_a_key_sees_its_own_account_and_needs_the_scope(
    billing: ControlProcess, customer: httpx.AsyncClient
) -> None:
    for path in ("/v1/bill", "/v1/usage", "/v1/requests", "/v1/charges"):
        other = await customer.get(path, params={"account": OTHER})
        assert (other.status_code, other.json()["error"]["code"]) == (404, "not_found")
        narrow = await customer.get(path, headers={"Authorization": f"Bearer {NARROW_KEY}"})
        assert (narrow.status_code, narrow.json()["error"]["code"]) == (403, "missing_scope")
        assert (await customer.get(path, headers={"Authorization": ""})).status_code == 401
    query = {"account": OTHER, "month": MONTH}
    operators = (await customer.get("/v1/bill", params=query, headers=billing.operator)).json()
    assert [line.quantity for line in lines(operators)] == [5, 5]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/bill", {"month": "2026-13"}, "month"),
        ("/v1/bill", {"month": "2026-1"}, "month"),
        ("/v1/bill", {"month": "0000-01"}, "month"),
        ("/v1/usage", {"month": MONTH, "from": "2026-01-01T00:00:00Z"}, "month"),
        ("/v1/usage", {"from": "2026-01-01T00:00:00"}, "from"),
        ("/v1/usage", {"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ("/v1/usage", {"from": "2020-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ("/v1/requests", {"limit": "0"}, "limit"),
        ("/v1/requests", {"cursor": "x"}, "cursor"),
        ("/v1/charges", {"cursor": "WyJhIiwgImIiLCAiYyIsICJkIl0"}, "cursor"),
    ],
)
async def test_a_wrong_question_is_refused_by_its_field(
    customer: httpx.AsyncClient, path: str, query: dict[str, str], field: str
) -> None:
    answer = await customer.get(path, params=query)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), answer.text


async def test_prices_are_those_of_the_text(customer: httpx.AsyncClient) -> None:
    page = (await customer.get("/v1/prices", params={"model": "deepseek-r1"})).json()
    assert [(row["price_id"], row["unit_price"], row["source"]) for row in page["data"]] == [
        ("deepseek-r1/input_tokens", "4", "published"),
        ("deepseek-r1/output_tokens", "16", "published"),
    ]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 7, "all": "true"}
    while True:
        page = (await customer.get("/v1/prices", params=query)).json()
        found += [row["price_id"] for row in page["data"]]
        if not page["next_cursor"]:
            break
        query["cursor"] = page["next_cursor"]
    assert found == sorted(set(found))
    assert {"sh-02/h20-8x141g/instance_seconds", "glm-4-9b-chat/cached_input_tokens"} <= set(found)


async def test_its_openapi_names_every_route_and_csv(customer: httpx.AsyncClient) -> None:
    document = (await customer.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/v1/usage", "/v1/bill", "/v1/requests", "/v1/charges", "/v1/prices"}
    for path in document["paths"].values():
        assert set(path) == {"get"}
        assert {"application/json", "text/csv"} <= set(path["get"]["responses"]["200"]["content"])


def test_on_a_server_without_users_its_owner_reads_within_billings_limits(
    clickhouse_server: ClickHouseProcess, stored: Stored, billing: ControlProcess, tmp_path: Path
) -> None:
    asking: dict[str, Any] = {"params": {"month": MONTH}, "headers": {"Authorization": f"Bearer {KEY}"}, "timeout": 60}
    expected = lines(httpx.get(f"{billing.url}/v1/bill", **asking).json())
    found = FoundAccess(analyst="no analyst", billing_user="hydra")
    keep(tmp_path, found, clickhouse_server.admin_password)
    with server_with_users(clickhouse_server) as door:
        door.forgotten = {"billing"}
        where = {"HYDRA_CLICKHOUSE_URL": door.url, "HYDRA_CLICKHOUSE_DATABASE": stored.database}
        with running_control("billing", tmp_path, stored.kafka, **where) as second:
            ready = httpx.get(f"{second.url}/health/ready", timeout=60).json()
            door.asked.clear()
            bill = httpx.get(f"{second.url}/v1/bill", **asking).json()
            asked = list(door.asked)
    assert ready["note"] == "reads ClickHouse as hydra, each question read-only and within billing's limits"
    assert lines(bill) == expected
    limits = {name: str(value) for name, value in BILLING_LIMITS.engine_settings().items()}
    assert asked
    for user, told in asked:
        assert user == "hydra" and told["readonly"] == "1"
        assert {name: told.get(name) for name in limits} == limits


async def test_an_owner_whose_questions_are_read_only_writes_nothing(clickhouse_server: ClickHouseProcess) -> None:
    address = ClickHouseAddress.with_password_file(clickhouse_server.url, ADMIN, clickhouse_server.admin_password_file)
    owner = ClickHouse(replace(address, database="default"), settings=BILLING_LIMITS.question_settings())
    with pytest.raises(Unavailable, match="READONLY"):
        await owner.command("CREATE TABLE written_by_billing (a UInt8) ENGINE = Memory")
    await owner.close()
