"""The step that token_charges and instance_charges share: rate a batch by the recorded prices, publish, park."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from aiokafka import ConsumerRecord

from adapters.clock import Clock
from adapters.errors import Rejected
from adapters.kafka.parking import Parker, decoded
from adapters.kafka.producer import EventProducer
from adapters.tracing import Traces
from domain.prices import PriceBook
from domain.rating import Unratable, charges_id, event_time_of
from schemas import codec
from schemas.charges import ChargesRaised
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.topics import CHARGES
from schemas.usage import TokensUsed
from streams.metrics import StreamMetrics
from streams.recorded_prices import RecordedPrices
from streams.spans import Step, spans_of

Data = TypeVar("Data", TokensUsed, InstanceChanged)

Rate = Callable[[Data, Event[Data], PriceBook], ChargesRaised]

UNPRICED = Rejected("unpriced", "no price was in force at the event's time; replay it once the price is recorded")
MESSAGE_BYTES_MAX = 1_000_000
TURN_RECORDS = 250
"""Records rated, some 5 ms, before others on the event loop get their turn."""


class Charging(Generic[Data]):
    """Bytes and prices in, charges or a parked message out. `process` is the function of a BatchConsumer."""

    def __init__(
        self,
        data_type: type[Data],
        rate: Rate[Data],
        source: str,
        prices: RecordedPrices,
        producer: EventProducer,
        parker: Parker,
        clock: Clock,
        metrics: StreamMetrics,
        traces: Traces | None = None,
    ) -> None:
        self._data_type: type[Data] = data_type
        self._rate: Rate[Data] = rate
        self._source = source
        self._prices = prices
        self._producer = producer
        self._parker = parker
        self._clock = clock
        self._metrics = metrics
        self._traces = traces

    async def process(self, records: Sequence[ConsumerRecord]) -> None:
        """Write the charges of every record, or park it, and return once Kafka has all. Raises Unavailable."""
        began = self._clock.now()
        await self._prices.catch_up()
        steps: list[Step] = []
        event_times: list[datetime] = []
        to_park: list[tuple[ConsumerRecord, Rejected]] = []
        async with self._producer.whole_batches(CHARGES) as charges:
            for number, record in enumerate(records):
                if number % TURN_RECORDS == TURN_RECORDS - 1:
                    await asyncio.sleep(0)
                try:
                    message, value = self._charges_of(record, steps)
                except Rejected as rejected:
                    to_park.append((record, rejected))
                    continue
                charges.add(message.subject, value)
                # Not the message: kept until the batch's end, all of them would be memory that is cold by then.
                event_times.append(message.time)
                if message.data.unbilled == "unpriced":
                    to_park.append((record, UNPRICED))
        for record, cause in to_park:
            await self._parker.park(record, cause)
        self._count(len(records), event_times, to_park)
        if self._traces is not None:
            for span in spans_of(steps, began, self._clock.now()):
                self._traces.add(span)

    def _charges_of(self, record: ConsumerRecord, steps: list[Step]) -> tuple[Event[ChargesRaised], bytes]:
        event = decoded(record, self._data_type)
        try:
            raised = self._rate(event.data, event, self._prices.book)
            time = event_time_of(event.data)
        except Unratable as error:
            raise Rejected("invalid", str(error)) from error
        traceparent = event.traceparent if self._traces is None else self._trace(event, raised, self._traces, steps)
        message = codec.event(
            raised,
            id=charges_id(raised),
            source=self._source,
            subject=raised.account,
            time=time,
            traceparent=traceparent,
        )
        value = codec.encode(message)
        if len(value) + len(raised.account) > MESSAGE_BYTES_MAX:
            raise Rejected("too_large", f"its charges would be a message of more than {MESSAGE_BYTES_MAX} bytes")
        return message, value

    @staticmethod
    def _trace(event: Event[Data], raised: ChargesRaised, traces: Traces, steps: list[Step]) -> str | None:
        """The `traceparent` of the charges. A request's trace began at the gateway; an instance's begins here."""
        if event.traceparent is None and isinstance(event.data, InstanceChanged):
            context = traces.of_event(event.id)
        else:
            context = traces.child(event.traceparent, raised.source_type, event.id)
        if context is None:
            return event.traceparent
        attributes: dict[str, str | int | bool] = {
            "hydra.source_event": event.id,
            "hydra.account": raised.account,
            "hydra.charge_lines": len(raised.lines),
            "hydra.rating_version": raised.rating_version,
        }
        if raised.unbilled is not None:
            attributes["hydra.unbilled"] = raised.unbilled
        steps.append(Step(context, f"rate {raised.source_type}", attributes))
        return context.traceparent

    def _count(
        self,
        records: int,
        event_times: Sequence[datetime],
        to_park: Sequence[tuple[ConsumerRecord, Rejected]],
    ) -> None:
        self._metrics.delays.observe(self._clock.now(), event_times)
        unpriced = sum(cause is UNPRICED for _, cause in to_park)
        self._metrics.events.inc(records)
        self._metrics.unpriced.inc(unpriced)
        self._metrics.parked.inc(len(to_park) - unpriced)
