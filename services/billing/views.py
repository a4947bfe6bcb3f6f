"""Answers of the HTTP interface. Decimals are strings in fixed point; quantities are whole numbers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from adapters.clickhouse.billing_questions import Bill
from domain.money import shortest
from schemas.charges import Meter, PriceSource, Unit
from schemas.prices import PriceRecorded

AsOf = Field(
    None,
    description="What happened before this instant is in the answer, but for late events and what waits to be rated "
    "(`pending` of a request); null: not known yet.",
    examples=["2026-11-21T03:45:23.000000Z"],
)


class BillLine(BaseModel):
    """What was used of one meter, model and resource at one price, and what it costs: quantity x unit_price / per."""

    meter: Meter
    quantity: int = Field(examples=[12000])
    unit: Unit
    unit_price: str = Field(description="Price of `per` units in `currency`.", examples=["4"])
    per: int = Field(examples=[1_000_000])
    amount: str = Field(description="Exact, not rounded to the currency.", examples=["0.048"])
    currency: str = Field(examples=["CNY"])
    model: str = Field(examples=["deepseek-r1"])
    resource: str = Field(
        description="The access path for tokens, the instance for time.", examples=["public/deepseek-r1"]
    )
    region: str | None = None
    spec: str | None = None
    charges: int = Field(description="How many charges it sums.")


class Total(BaseModel):
    """The sum of all lines in one currency."""

    amount: str
    currency: str


class ModelTotal(Total):
    """The sum of a model's lines."""

    model: str


class ResourceTotal(Total):
    """The sum of a resource's lines: an access path or an instance."""

    resource: str


class Totals(BaseModel):
    """Sums of the lines, per currency."""

    overall: list[Total]
    by_model: list[ModelTotal]
    by_resource: list[ResourceTotal]


class BillAnswer(BaseModel):
    """The bill of a month so far. It is not closed and may still grow by late events."""

    account: str
    month: str = Field(examples=["2026-11"])
    time_zone: str = Field(examples=["Asia/Shanghai"])
    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="until")
    lines: list[BillLine]
    totals: Totals
    as_of: datetime | None = AsOf


class UnbilledUsage(BaseModel):
    """Requests without a charge, and why."""

    reason: str = Field(examples=["billed_by_time"])
    model: str
    resource: str = Field(description="The access path that was asked for.")
    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageAnswer(BaseModel):
    """What was used in an interval of event time, with what it costs; and what was used without being charged."""

    account: str
    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="until")
    lines: list[BillLine]
    unbilled: list[UnbilledUsage] = Field(description="By reason, model and access path: at most 1,000 sums.")
    unbilled_truncated: bool = Field(description="There are more sums than `unbilled` has; the smallest lack.")
    totals: Totals
    as_of: datetime | None = AsOf


class PriceView(BaseModel):
    """One version of one price."""

    price_id: str = Field(examples=["deepseek-r1/input_tokens"])
    version: int
    meter: Meter
    model: str | None
    region: str | None
    spec: str | None
    unit_price: str = Field(examples=["4"])
    per: int = Field(description="1000000 tokens or 3600 seconds.")
    currency: str
    effective_from: datetime
    effective_until: datetime | None
    recorded_at: datetime
    source: PriceSource = Field(description="`example` prices are made up.")

    @classmethod
    def of(cls, price: PriceRecorded) -> PriceView:
        return cls(
            price_id=price.price_id,
            version=price.version,
            meter=price.meter,
            model=price.model,
            region=price.region,
            spec=price.spec,
            unit_price=shortest(price.unit_price),
            per=price.per,
            currency=price.currency,
            effective_from=price.effective_from,
            effective_until=price.effective_until,
            recorded_at=price.recorded_at,
            source=price.source,
        )


class PricePage(BaseModel):
    """Prices by id."""

    data: list[PriceView]
    next_cursor: str | None = None
    as_of: datetime | None = AsOf


def lines_of(bill: Bill) -> list[BillLine]:
    """The bill's lines as the interface has them."""
    return [
        BillLine(
            meter=line["meter"],
            quantity=int(line["quantity"]),
            unit=line["unit"],
            unit_price=shortest(line["unit_price"]),
            per=line["per"],
            amount=shortest(line["amount"]),
            currency=line["currency"],
            model=line["model"],
            resource=line["resource"],
            region=line["region"] or None,
            spec=line["spec"] or None,
            charges=line["charges"],
        )
        for line in bill.lines
    ]


def totals_of(bill: Bill) -> Totals:
    """The bill's totals as the interface has them."""
    return Totals(
        overall=[Total(amount=shortest(a), currency=c) for c, a in sorted(bill.totals.items())],
        by_model=[
            ModelTotal(model=model, amount=shortest(amount), currency=currency)
            for (model, currency), amount in sorted(bill.by_model.items())
        ],
        by_resource=[
            ResourceTotal(resource=resource, amount=shortest(amount), currency=currency)
            for (resource, currency), amount in sorted(bill.by_resource.items())
        ],
    )
