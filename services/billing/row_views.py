"""Single requests and single charges, as the HTTP interface has them: a page each, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from domain.money import shortest
from schemas.charges import Meter, PriceSource, SourceType, Unit
from services.billing.views import AsOf


class RequestCharges(BaseModel):
    """What one request costs in one currency."""

    amount: str = Field(examples=["0.0048"])
    currency: str = Field(examples=["CNY"])
    charges: int = Field(description="How many charges it sums.")


class RequestRow(BaseModel):
    """One authenticated inference request. What is null was not known, or not reported by the engine."""

    id: str = Field(examples=["cmp-" + "0" * 32])
    event_time: datetime = Field(description="When it ended: decides price, day and month.")
    received: datetime
    first_token: datetime | None
    key_id: str | None
    access_path: str | None = Field(examples=["public/deepseek-r1"])
    endpoint: str
    streamed: bool
    outcome: str = Field(examples=["completed"])
    status: int = Field(examples=[200])
    error_code: str | None
    billing: str | None = Field(examples=["token"])
    model: str | None
    region: str | None
    instance: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    charges: list[RequestCharges]
    unbilled: str | None = Field(description="Why it has no charge; `pending`: not rated yet.")


class RequestPage(BaseModel):
    """A page of requests, oldest first; `next_cursor` is null on the last."""

    data: list[RequestRow]
    next_cursor: str | None = None
    as_of: datetime | None = AsOf


class ChargeRow(BaseModel):
    """One charge line, which explains itself: amount = quantity x unit_price / per at this price, for this event."""

    id: str
    event_time: datetime
    source_event: str = Field(description="The request or instance event that it charges.")
    source_type: SourceType
    meter: Meter
    quantity: int
    unit: Unit
    unit_price: str = Field(examples=["4"])
    per: int = Field(description="1000000 tokens or 3600 seconds.")
    amount: str = Field(examples=["0.004"])
    currency: str = Field(examples=["CNY"])
    price_id: str = Field(examples=["deepseek-r1/input_tokens"])
    price_version: int
    price_source: PriceSource
    segment_from: datetime
    segment_until: datetime
    access_path: str
    resource: str
    model: str | None
    region: str | None
    spec: str | None
    instance: str | None
    key_id: str | None


class ChargePage(BaseModel):
    """A page of charges, oldest first; `next_cursor` is null on the last."""

    data: list[ChargeRow]
    next_cursor: str | None = None
    as_of: datetime | None = AsOf


def row_view(row: dict[str, Any]) -> dict[str, Any]:
    """A row of ClickHouse as JSON has it: decimals as text, instants aware, an empty text as null."""
    return {name: _value_view(value) for name, value in row.items()}


def _value_view(value: Any) -> Any:
    match value:
        case Decimal():
            return shortest(value)
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case list():
            return [row_view(entry) for entry in value]
        case "":
            return None
        case _:
            return value
