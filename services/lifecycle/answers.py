"""What the HTTP interface answers: services in short and in full, their instances, and how they are built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field

from adapters.clock import Clock
from domain.ids import access_path
from domain.money import written
from schemas.charges import PriceSource
from schemas.deployments import ServiceStatus
from schemas.instances import InstanceState
from schemas.usage import BillingMode
from services.lifecycle.call_examples import AUTHORIZATION, call_examples, endpoint_url
from services.lifecycle.prices import ShownPrices
from services.lifecycle.records import InstanceRecord, ServiceRecord


class InstanceAnswer(BaseModel):
    """One replica. `billed_until` is the end of its last billable interval."""

    id: str = Field(examples=["i-4f1d3c9ab2e0"])
    state: InstanceState
    created: datetime
    reason: str | None = Field(None, description="Why it is not ready, where that is known.")
    billed_until: datetime | None = None
    ended: datetime | None = None
    node: str | None = Field(None, description="Shown to the operator alone.")


class ServiceSummary(BaseModel):
    """A service in a list."""

    name: str = Field(examples=["test"])
    access_path: str = Field(description="The model's name in requests.", examples=["u-8105f7322477/test"])
    account: str
    service_id: str
    model: str
    region: str
    spec: str
    status: ServiceStatus
    reason: str | None = Field(None, description="Why it is not as it is wanted, where that is known.")
    billing_mode: BillingMode = Field(
        description="time: paid per second of each ready instance; operator: a shared model."
    )
    created: datetime
    replicas: int = Field(description="Instances wanted while it runs.")
    ready: int = Field(description="Instances that take requests now.")


class ServiceDetails(ServiceSummary):
    """A service in full."""

    price_per_hour: str | None = Field(
        None, description="Of one instance now, a decimal; null where none is charged or known."
    )
    currency: str | None = None
    price_source: PriceSource | None = None
    endpoint: str = Field(examples=["https://sh-02.example.com/v1"])
    authorization: str = Field(description="The header that every call needs.")
    examples: dict[str, str] = Field(description="Calls in curl, python and node, with everything filled in.")
    instances: list[InstanceAnswer]


class ServicePage(BaseModel):
    """Some services, by account and name."""

    data: list[ServiceSummary]
    next_cursor: str | None = Field(None, description="Send it as `cursor` to get what follows.")


class InstancePage(BaseModel):
    """Instances of one service, oldest first."""

    data: list[InstanceAnswer]
    next_cursor: str | None = None


def summary(record: ServiceRecord, instances: Iterable[InstanceRecord]) -> ServiceSummary:
    """A service in short; `instances` are its living ones."""
    service = record.service
    return ServiceSummary(
        name=service.name,
        access_path=access_path(service.account, service.name),
        account=service.account,
        service_id=service.service_id,
        model=service.model,
        region=service.region,
        spec=service.spec,
        status=service.status,
        reason=service.reason,
        billing_mode=service.billing,
        created=service.created,
        replicas=service.replicas,
        ready=sum(1 for one in instances if one.state == "ready"),
    )


def instance_answer(record: InstanceRecord, *, operator: bool) -> InstanceAnswer:
    """An instance; which machine it runs on is not its customer's business."""
    return InstanceAnswer(
        id=record.instance,
        state=record.state,
        created=record.created,
        reason=record.reason,
        billed_until=record.meter.billed_until,
        ended=record.ended_at,
        node=record.node if operator else None,
    )


@dataclass(frozen=True)
class Details:
    """What turns a record into a ServiceDetails."""

    prices: ShownPrices
    clock: Clock
    gateway_url: str
    domain: str | None

    def of(self, record: ServiceRecord, instances: Iterable[InstanceRecord], *, operator: bool) -> ServiceDetails:
        """A service in full; `instances` are its living ones."""
        service, held = record.service, list(instances)
        price = None
        if service.billing == "time":
            price_id = self.prices.price_id(service.region, service.spec)
            price = self.prices.book.price_at(price_id, self.clock.now())
        short = summary(record, held)
        endpoint = endpoint_url(
            account=service.account, region=service.region, gateway_url=self.gateway_url, domain=self.domain
        )
        return ServiceDetails(
            **short.model_dump(),
            price_per_hour=None if price is None else written(price.unit_price),
            currency=None if price is None else price.currency,
            price_source=None if price is None else price.source,
            endpoint=endpoint,
            authorization=AUTHORIZATION,
            examples=call_examples(endpoint, short.access_path),
            instances=[instance_answer(one, operator=operator) for one in held],
        )
