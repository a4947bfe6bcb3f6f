"""ClickHouse databases of a test's own, and builders of rows: a test names what it is about, the rest is given."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.rows import ChargeRow, InstanceEventRow, UnratedRow, UsageRow
from tests.servers.clickhouse import ClickHouseProcess

ZONE = "Asia/Shanghai"
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def address(clickhouse_server: ClickHouseProcess) -> ClickHouseAddress:
    """A database that does not exist yet."""
    return ClickHouseAddress.with_password_file(
        clickhouse_server.url, ADMIN, clickhouse_server.admin_password_file, f"t_{uuid.uuid4().hex[:12]}"
    )


@pytest.fixture
async def empty(address: ClickHouseAddress) -> AsyncIterator[ClickHouse]:
    """A client of that database, which is dropped at the end."""
    client = ClickHouse(address)
    yield client
    await client.command(f"DROP DATABASE IF EXISTS {address.database}")
    await client.close()


@pytest.fixture
async def clickhouse(empty: ClickHouse) -> ClickHouse:
    """A client of a database with all tables and views."""
    await migrate(empty, ZONE)
    return empty


def usage_row(id: str, **given: Any) -> UsageRow:
    ended = given.get("event_time", NOON)
    values: dict[str, Any] = {
        "payload_hash": f"hash of {id}",
        "account": "u-1",
        "event_time": ended,
        "received": ended - timedelta(seconds=2),
        "first_token": ended - timedelta(seconds=1),
        "key_id": "k-1",
        "access_path": "public/m",
        "endpoint": "chat.completions",
        "streamed": True,
        "outcome": "completed",
        "status": 200,
        "error_code": "",
        "billing": "token",
        "service_id": "s-1",
        "model": "m",
        "region": "sh-02",
        "instance": "i-1",
        "prompt_tokens": 10,
        "cached_tokens": None,
        "completion_tokens": 5,
        "attempts": 0,
        "client_request_id": "",
        "gateway": "g",
        "arrived_at": ended + timedelta(seconds=1),
    }
    return UsageRow(id=id, **(values | given))


def charge_row(id: str, source_event: str, **given: Any) -> ChargeRow:
    time = given.get("event_time", NOON)
    values: dict[str, Any] = {
        "payload_hash": f"hash of {id}",
        "account": "u-1",
        "event_time": time,
        "source_type": "usage",
        "source_hash": f"hash of {source_event}",
        "rating_version": 1,
        "meter": "input_tokens",
        "quantity": 10,
        "unit": "token",
        "unit_price": Decimal(4),
        "per": 1_000_000,
        "amount": Decimal("0.00004"),
        "currency": "CNY",
        "price_id": "m/input_tokens",
        "price_version": 1,
        "price_source": "example",
        "segment_from": time,
        "segment_until": time,
        "access_path": "public/m",
        "resource": "public/m",
        "service_id": "s-1",
        "model": "m",
        "region": "sh-02",
        "spec": "",
        "instance": "i-1",
        "key_id": "k-1",
        "corrects": "",
        "arrived_at": time + timedelta(seconds=1),
    }
    return ChargeRow(id=id, source_event=source_event, **(values | given))


def unrated_row(id: str, reason: str, **given: Any) -> UnratedRow:
    time = given.get("event_time", NOON)
    values: dict[str, Any] = {
        "payload_hash": f"hash of {id}",
        "account": "u-1",
        "event_time": time,
        "source_type": "usage",
        "rating_version": 1,
        "access_path": "public/m",
        "model": "m",
        "key_id": "k-1",
        "arrived_at": time + timedelta(seconds=1),
    }
    return UnratedRow(id=id, reason=reason, **(values | given))


def instance_row(id: str, start: datetime, seconds: int, **given: Any) -> InstanceEventRow:
    end = start + timedelta(seconds=seconds)
    values: dict[str, Any] = {
        "payload_hash": f"hash of {id}",
        "account": "u-1",
        "event_time": end,
        "at": end,
        "instance": "i-1",
        "epoch": 1,
        "sequence": 1,
        "state": "ready",
        "service_id": "s-1",
        "access_path": "u-1/test",
        "model": "m",
        "region": "sh-02",
        "spec": "gpu.1",
        "billing": "time",
        "node": "n-1",
        "reason": "",
        "billable_from": start,
        "billable_until": end,
        "billable_seconds": seconds,
        "start_moved": False,
        "arrived_at": end + timedelta(seconds=1),
    }
    return InstanceEventRow(id=id, **(values | given))
