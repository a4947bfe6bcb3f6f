"""Usage events and prices to measure with: answered requests of a number of accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from adapters.kafka.producer import EventProducer
from domain import ids
from schemas import codec, topics
from schemas.charges import Meter
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed

ACCOUNTS = 50
PUBLISHED_AT_ONCE = 5_000
START = datetime(2026, 6, 1, tzinfo=UTC)


def usage(number: int) -> TokensUsed:
    """One answered request of one of the accounts."""
    ended = START + timedelta(milliseconds=number)
    return TokensUsed(
        request_id=ids.request_id(number.to_bytes(16, "big") + bytes(16)),
        account=f"u-{number % ACCOUNTS:012x}",
        key_id="k-000000000001",
        access_path="public/deepseek-r1",
        endpoint="chat.completions",
        streamed=False,
        received=ended,
        ended=ended,
        outcome="completed",
        status=200,
        service_id="s-000000000001",
        model="deepseek-r1",
        region="sh-02",
        billing="token",
        instance="i-000000000001",
        epoch=1,
        prompt_tokens=100 + number % 900,
        completion_tokens=20 + number % 80,
    )


def prices() -> list[PriceRecorded]:
    """Of the one model that all events use."""
    unit_prices: dict[Meter, str] = {"input_tokens": "4", "output_tokens": "16"}
    return [
        PriceRecorded(
            price_id=f"deepseek-r1/{meter}",
            version=1,
            meter=meter,
            unit_price=Decimal(price),
            per=1_000_000,
            currency="CNY",
            effective_from=START - timedelta(days=1),
            recorded_at=START - timedelta(days=1),
            source="published",
            model="deepseek-r1",
        )
        for meter, price in unit_prices.items()
    ]


def encoded(number: int) -> bytes:
    data = usage(number)
    return codec.encode(codec.event(data, id=data.request_id, source="/bench", subject=data.account, time=data.ended))


async def publish(producer: EventProducer, events: int) -> None:
    """The prices, then so many usage events."""
    for price in prices():
        id = ids.price_event_id(price.price_id, price.version)
        event = codec.event(price, id=id, source="/bench", subject=price.price_id, time=price.recorded_at)
        await producer.publish(topics.PRICES, price.price_id, codec.encode(event))
    for first in range(0, events, PUBLISHED_AT_ONCE):
        numbers = range(first, min(events, first + PUBLISHED_AT_ONCE))
        await producer.publish_batch(topics.USAGE, [(usage(number).account, encoded(number)) for number in numbers])
