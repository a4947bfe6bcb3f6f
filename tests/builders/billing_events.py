"""Usage, instance and price events, valid as they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain.ids import instance_event_id, price_event_id
from schemas import codec
from schemas.envelope import Event
from schemas.instances import BillableInterval, InstanceChanged
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
MODEL = "deepseek-r1"
ACCOUNT = "u-0123456789ab"
REGION = "sh-02"
SPEC = "gpu-1"


def usage(number: int = 1, **fields: Any) -> TokensUsed:
    """An answered request of a shared model: 1,000 prompt tokens of which 200 cached, 500 completion tokens."""
    ended = fields.pop("ended", NOON)
    known: dict[str, Any] = {
        "request_id": f"cmp-{number:032x}",
        "account": ACCOUNT,
        "key_id": "k-0123456789ab",
        "access_path": f"public/{MODEL}",
        "endpoint": "chat.completions",
        "streamed": True,
        "received": ended - timedelta(seconds=2),
        "ended": ended,
        "outcome": "completed",
        "status": 200,
        "service_id": "s-0123456789ab",
        "model": MODEL,
        "region": REGION,
        "billing": "token",
        "instance": "i-0123456789ab",
        "epoch": 1,
        "prompt_tokens": 1_000,
        "cached_tokens": 200,
        "completion_tokens": 500,
    }
    return TokensUsed(**(known | fields))


def usage_event(data: TokensUsed) -> Event[TokensUsed]:
    return codec.event(
        data, id=data.request_id, source="/hydra/gateway", subject=data.account, time=data.ended.astimezone(UTC)
    )


def instance(
    billable_from: datetime | None = NOON, billable_until: datetime | None = None, **fields: Any
) -> InstanceChanged:
    """A ready instance of a customer's service that proves a minute; no interval where `billable_from` is None."""
    interval = None
    if billable_from is not None:
        until = billable_until or billable_from + timedelta(minutes=1)
        interval = BillableInterval(billable_from=billable_from, billable_until=until, period=1)
    known: dict[str, Any] = {
        "instance": "i-0123456789ab",
        "epoch": 1,
        "sequence": 1,
        "state": "ready",
        "at": interval.billable_until if interval else NOON,
        "account": ACCOUNT,
        "service_id": "s-0123456789ab",
        "access_path": f"{ACCOUNT}/test",
        "model": "qwen2-0.5b-instruct",
        "region": REGION,
        "spec": SPEC,
        "billing": "time",
        "interval": interval,
    }
    return InstanceChanged(**(known | fields))


def instance_event(data: InstanceChanged) -> Event[InstanceChanged]:
    return codec.event(
        data,
        id=instance_event_id(data.instance, data.epoch, data.sequence),
        source="/hydra/lifecycle",
        subject=data.instance,
        time=data.interval.billable_until if data.interval else data.at,
    )


def token_price(meter: str, unit_price: str, version: int = 1, **fields: Any) -> PriceRecorded:
    """A published price of the shared model, in force since long ago."""
    model = fields.pop("model", MODEL)
    known: dict[str, Any] = {
        "price_id": f"{model}/{meter}",
        "version": version,
        "meter": meter,
        "unit_price": Decimal(unit_price),
        "per": 1_000_000,
        "currency": "CNY",
        "effective_from": LONG_AGO,
        "recorded_at": LONG_AGO,
        "source": "published",
        "model": model,
    }
    return PriceRecorded(**(known | fields))


def hour_price(unit_price: str, version: int = 1, **fields: Any) -> PriceRecorded:
    """A price per hour of the spec in the region, in force since long ago."""
    known: dict[str, Any] = {
        "price_id": f"{REGION}/{SPEC}/instance_seconds",
        "version": version,
        "meter": "instance_seconds",
        "unit_price": Decimal(unit_price),
        "per": 3600,
        "currency": "CNY",
        "effective_from": LONG_AGO,
        "recorded_at": LONG_AGO,
        "source": "example",
        "region": REGION,
        "spec": SPEC,
    }
    return PriceRecorded(**(known | fields))


def price_event(data: PriceRecorded) -> Event[PriceRecorded]:
    return codec.event(
        data,
        id=price_event_id(data.price_id, data.version),
        source="/hydra/billing",
        subject=data.price_id,
        time=data.recorded_at,
    )


def deepseek_prices() -> list[PriceRecorded]:
    """4 CNY a million input tokens, 1 cached, 16 output."""
    return [
        token_price("input_tokens", "4"),
        token_price("cached_input_tokens", "1"),
        token_price("output_tokens", "16"),
    ]
