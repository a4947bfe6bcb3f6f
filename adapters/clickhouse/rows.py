"""The rows of each table, typed: field names are column names. How an event becomes its rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from domain import payload_hash
from domain.calendar import utc
from domain.rating import event_time_of
from schemas.charges import ChargesRaised
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.parked import MessageParked, ParkedReplayed
from schemas.prices import PriceRecorded
from schemas.stops import StopNoted
from schemas.usage import TokensUsed

_ATTEMPTS_MAX = 65_535


class UsageRow(NamedTuple):
    id: str
    payload_hash: str
    account: str
    event_time: datetime
    received: datetime
    first_token: datetime | None
    key_id: str
    access_path: str
    endpoint: str
    streamed: bool
    outcome: str
    status: int
    error_code: str
    billing: str
    service_id: str
    model: str
    region: str
    instance: str
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    attempts: int
    client_request_id: str
    gateway: str
    arrived_at: datetime
    time_doubtful: bool = False


class InstanceEventRow(NamedTuple):
    id: str
    payload_hash: str
    account: str
    event_time: datetime
    at: datetime
    instance: str
    epoch: int
    sequence: int
    state: str
    service_id: str
    access_path: str
    model: str
    region: str
    spec: str
    billing: str
    node: str
    reason: str
    billable_from: datetime | None
    billable_until: datetime | None
    billable_seconds: int
    start_moved: bool
    arrived_at: datetime


class ChargeRow(NamedTuple):
    id: str
    payload_hash: str
    account: str
    event_time: datetime
    source_event: str
    source_type: str
    source_hash: str
    rating_version: int
    meter: str
    quantity: int
    unit: str
    unit_price: Decimal
    per: int
    amount: Decimal
    currency: str
    price_id: str
    price_version: int
    price_source: str
    segment_from: datetime
    segment_until: datetime
    access_path: str
    resource: str
    service_id: str
    model: str
    region: str
    spec: str
    instance: str
    key_id: str
    corrects: str
    arrived_at: datetime


class UnratedRow(NamedTuple):
    id: str
    payload_hash: str
    account: str
    event_time: datetime
    source_type: str
    rating_version: int
    reason: str
    access_path: str
    model: str
    key_id: str
    arrived_at: datetime


class PriceRow(NamedTuple):
    id: str
    payload_hash: str
    price_id: str
    version: int
    meter: str
    unit_price: Decimal
    per: int
    currency: str
    effective_from: datetime
    effective_until: datetime | None
    recorded_at: datetime
    source: str
    model: str
    region: str
    spec: str


class ParkedRow(NamedTuple):
    id: str
    processor: str
    topic: str
    topic_partition: int
    topic_offset: int
    reason: str
    detail: str
    parked_at: datetime


class ParkedReplayRow(NamedTuple):
    id: str
    replayed_at: datetime


class StopRow(NamedTuple):
    id: str
    process: str
    what: str
    at: datetime
    reason: str
    by: str
    topic: str
    topic_partition: int
    first_offset: int | None
    last_offset: int | None


class ProgressRow(NamedTuple):
    topic: str
    topic_partition: int
    next_offset: int
    event_time: datetime | None
    caught_up: bool
    noted_at: datetime


def usage_row(event: Event[TokensUsed], arrived_at: datetime) -> UsageRow:
    """`arrived_at` is the Kafka record's timestamp. Event time is what the hash covers, not the envelope's."""
    data = event.data
    return UsageRow(
        id=event.id,
        payload_hash=payload_hash.of_usage(data),
        account=data.account,
        event_time=event_time_of(data),
        received=utc(data.received),
        first_token=utc(data.first_token) if data.first_token else None,
        key_id=data.key_id,
        access_path=data.access_path,
        endpoint=data.endpoint,
        streamed=data.streamed,
        outcome=data.outcome,
        status=data.status,
        error_code=data.error_code or "",
        billing=data.billing or "",
        service_id=data.service_id or "",
        model=data.model or "",
        region=data.region or "",
        instance=data.instance or "",
        prompt_tokens=data.prompt_tokens,
        cached_tokens=data.cached_tokens,
        completion_tokens=data.completion_tokens,
        attempts=min(len(data.attempts), _ATTEMPTS_MAX),
        client_request_id=data.client_request_id or "",
        gateway=data.gateway or "",
        arrived_at=arrived_at,
        time_doubtful=data.time_doubtful,
    )


def instance_event_row(event: Event[InstanceChanged], arrived_at: datetime) -> InstanceEventRow:
    data = event.data
    interval = data.interval
    start = utc(interval.billable_from) if interval else None
    end = utc(interval.billable_until) if interval else None
    return InstanceEventRow(
        id=event.id,
        payload_hash=payload_hash.of_instance(data),
        account=data.account,
        event_time=event_time_of(data),
        at=utc(data.at),
        instance=data.instance,
        epoch=data.epoch,
        sequence=data.sequence,
        state=data.state,
        service_id=data.service_id,
        access_path=data.access_path,
        model=data.model,
        region=data.region,
        spec=data.spec,
        billing=data.billing,
        node=data.node or "",
        reason=data.reason or "",
        billable_from=start,
        billable_until=end,
        billable_seconds=int((end - start).total_seconds()) if start and end else 0,
        start_moved=interval.start_moved if interval else False,
        arrived_at=arrived_at,
    )


def charge_rows(event: Event[ChargesRaised], arrived_at: datetime) -> list[ChargeRow]:
    """One row a line. A line's event time is its segment's begin: it lies in one UTC hour, which its own end may not
    (23:00 to 24:00 belongs to the day and the month that it is in). For tokens both are the request's end."""
    data = event.data
    return [
        ChargeRow(
            id=line.id,
            payload_hash=line.payload_hash,
            account=data.account,
            event_time=utc(line.segment_from),
            source_event=data.source_event,
            source_type=data.source_type,
            source_hash=data.source_hash,
            rating_version=data.rating_version,
            meter=line.meter,
            quantity=line.quantity,
            unit=line.unit,
            unit_price=line.unit_price,
            per=line.per,
            amount=line.amount,
            currency=line.currency,
            price_id=line.price_id,
            price_version=line.price_version,
            price_source=line.price_source,
            segment_from=utc(line.segment_from),
            segment_until=utc(line.segment_until),
            access_path=data.access_path,
            resource=data.resource,
            service_id=data.service_id or "",
            model=data.model or "",
            region=data.region or "",
            spec=data.spec or "",
            instance=data.instance or "",
            key_id=data.key_id or "",
            corrects=data.corrects or "",
            arrived_at=arrived_at,
        )
        for line in data.lines
    ]


def unrated_row(event: Event[ChargesRaised], arrived_at: datetime) -> UnratedRow | None:
    """None for a message that has charge lines."""
    data = event.data
    if data.unbilled is None:
        return None
    return UnratedRow(
        id=data.source_event,
        payload_hash=data.source_hash,
        account=data.account,
        event_time=utc(event.time),
        source_type=data.source_type,
        rating_version=data.rating_version,
        reason=data.unbilled,
        access_path=data.access_path,
        model=data.model or "",
        key_id=data.key_id or "",
        arrived_at=arrived_at,
    )


def price_row(event: Event[PriceRecorded]) -> PriceRow:
    data = event.data
    return PriceRow(
        id=event.id,
        payload_hash=payload_hash.of_price(data),
        price_id=data.price_id,
        version=data.version,
        meter=data.meter,
        unit_price=data.unit_price,
        per=data.per,
        currency=data.currency,
        effective_from=utc(data.effective_from),
        effective_until=utc(data.effective_until) if data.effective_until else None,
        recorded_at=utc(data.recorded_at),
        source=data.source,
        model=data.model or "",
        region=data.region or "",
        spec=data.spec or "",
    )


def parked_row(event: Event[MessageParked]) -> ParkedRow:
    data = event.data
    return ParkedRow(
        id=_parking(data),
        processor=data.processor,
        topic=data.topic,
        topic_partition=data.partition,
        topic_offset=data.offset,
        reason=data.reason,
        detail=data.detail,
        parked_at=utc(data.parked_at),
    )


def parked_replay_row(event: Event[ParkedReplayed]) -> ParkedReplayRow:
    return ParkedReplayRow(id=_parking(event.data), replayed_at=utc(event.data.replayed_at))


def stop_rows(event: Event[StopNoted]) -> list[StopRow]:
    """One row a gap and a partition to be read again; one without a topic where there is neither."""
    data = event.data

    def row(topic: str, partition: int, first: int | None = None, last: int | None = None) -> StopRow:
        return StopRow(
            event.id, data.process, data.what, utc(data.at), data.reason, data.by or "", topic, partition, first, last
        )

    found = [row(gap.topic, gap.partition, gap.first_offset, gap.last_offset) for gap in data.gaps]
    found += [row(again.topic, again.partition) for again in data.reread]
    return found or [row("", 0)]


def _parking(data: MessageParked | ParkedReplayed) -> str:
    return f"{data.processor}/{data.topic}/{data.partition}/{data.offset}"
