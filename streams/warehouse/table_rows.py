"""One Kafka record to the rows that it is in ClickHouse, or why it is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from aiokafka import ConsumerRecord

from adapters.clickhouse import rows
from adapters.clickhouse.writing import Batch
from adapters.errors import Rejected
from adapters.kafka.parking import decoded
from adapters.tracing import Traces
from domain import prices
from domain.calendar import utc
from domain.payload_hash import of_charge
from domain.plausible import Implausible, check_plausible
from domain.rating import event_time_of
from schemas import codec
from schemas.charges import ChargesRaised
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.parked import MessageParked, ParkedReplayed
from schemas.prices import PriceRecorded
from schemas.stops import StopNoted
from schemas.topics import CHARGES, EVENT_TYPES, INSTANCES, PARKED, PRICES, STOPS, USAGE, Topic
from schemas.usage import TokensUsed
from streams.spans import Step

TOPICS: tuple[Topic, ...] = (USAGE, INSTANCES, CHARGES, PRICES, PARKED, STOPS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Rows:
    """The rows of a batch, by table."""

    usage: list[rows.UsageRow] = field(default_factory=list)
    instance_events: list[rows.InstanceEventRow] = field(default_factory=list)
    charges: list[rows.ChargeRow] = field(default_factory=list)
    unrated: list[rows.UnratedRow] = field(default_factory=list)
    prices: list[rows.PriceRow] = field(default_factory=list)
    parked: list[rows.ParkedRow] = field(default_factory=list)
    parked_replays: list[rows.ParkedReplayRow] = field(default_factory=list)
    stops: list[rows.StopRow] = field(default_factory=list)

    traced: list[Step] = field(default_factory=list)

    def add(self, record: ConsumerRecord) -> datetime:
        """Take in one record and return its event time. Raises Rejected, and then nothing was taken."""
        try:
            return _TAKERS[record.topic](self, record)
        except (Implausible, prices.InvalidPrice) as error:
            raise Rejected("invalid", str(error)) from error

    def trace(self, event: Event[TokensUsed] | Event[ChargesRaised], table: str) -> None:
        """Note the span that the event will have once its rows are written, where it is traced."""
        context = Traces.child(event.traceparent, table, event.id) if event.traceparent else None
        if context is not None:
            attributes: dict[str, str | int | bool] = {"hydra.event": event.id, "hydra.account": event.data.account}
            self.traced.append(Step(context, f"write {table}", attributes))

    def batch(self) -> Batch:
        return Batch(
            usage=self.usage,
            instance_events=self.instance_events,
            charges=self.charges,
            unrated=self.unrated,
            prices=self.prices,
            parked=self.parked,
            parked_replays=self.parked_replays,
            stops=self.stops,
        )


def _plausible(record: ConsumerRecord, data_type: type[codec.Data]) -> Event[codec.Data]:
    event = decoded(record, data_type)
    check_plausible(event.data)
    return event


def _take_usage(taken: Rows, record: ConsumerRecord) -> datetime:
    event = _plausible(record, TokensUsed)
    taken.usage.append(rows.usage_row(event, arrived_at(record)))
    taken.trace(event, "usage")
    return event_time_of(event.data)


def _take_instance(taken: Rows, record: ConsumerRecord) -> datetime:
    event = _plausible(record, InstanceChanged)
    taken.instance_events.append(rows.instance_event_row(event, arrived_at(record)))
    return event_time_of(event.data)


def _take_charges(taken: Rows, record: ConsumerRecord) -> datetime:
    event = _plausible(record, ChargesRaised)
    if bool(event.data.lines) == (event.data.unbilled is not None):
        raise Rejected("invalid", "charges have either lines or a reason why there are none")
    if event.time.tzinfo is None:
        raise Rejected("invalid", "its time has no time zone")
    if any(line.payload_hash != of_charge(line, event.data.source_hash) for line in event.data.lines):
        # Its id would replace the true line in every bill, and its hash would call that no conflict.
        raise Rejected("invalid", "the hash of a line is not that of what it says")
    taken.charges.extend(rows.charge_rows(event, arrived_at(record)))
    unrated = rows.unrated_row(event, arrived_at(record))
    if unrated is not None:
        taken.unrated.append(unrated)
    taken.trace(event, "charges")
    return utc(event.time)


def _take_price(taken: Rows, record: ConsumerRecord) -> datetime:
    event = _plausible(record, PriceRecorded)
    prices.check(event.data)
    taken.prices.append(rows.price_row(event))
    return utc(event.data.recorded_at)


def _take_parked(taken: Rows, record: ConsumerRecord) -> datetime:
    try:
        kind = EVENT_TYPES.get(codec.decode_head(record.value or b"").type)
    except msgspec.DecodeError as error:
        raise Rejected("undecodable", "not an event") from error
    if kind is ParkedReplayed:
        replayed = _plausible(record, ParkedReplayed)
        taken.parked_replays.append(rows.parked_replay_row(replayed))
        return utc(replayed.data.replayed_at)
    if kind is not MessageParked:
        raise Rejected("unknown_type", f"{PARKED.name} carries no events of this type")
    parked = _plausible(record, MessageParked)
    taken.parked.append(rows.parked_row(parked))
    return utc(parked.data.parked_at)


def _take_stop(taken: Rows, record: ConsumerRecord) -> datetime:
    event = _plausible(record, StopNoted)
    taken.stops.extend(rows.stop_rows(event))
    return utc(event.data.at)


_TAKERS: dict[str, Callable[[Rows, ConsumerRecord], datetime]] = {
    USAGE.name: _take_usage,
    INSTANCES.name: _take_instance,
    CHARGES.name: _take_charges,
    PRICES.name: _take_price,
    PARKED.name: _take_parked,
    STOPS.name: _take_stop,
}


def arrived_at(record: ConsumerRecord) -> datetime:
    """When Kafka took the record (UTC)."""
    return _instant(max(0, record.timestamp or 0))


@lru_cache(maxsize=1024)  # the records of a batch were taken within few milliseconds
def _instant(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
