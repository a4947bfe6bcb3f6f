"""CloudEvents 1.0, structured mode, as every message on Kafka carries it."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

from schemas.scalars import Instant

Data = TypeVar("Data", bound=msgspec.Struct)


class Event(msgspec.Struct, Generic[Data], frozen=True, omit_defaults=True, kw_only=True):
    """One event. `id` is derived from what happened, never random, so that a repeat is seen as one.

    `time` is event time (UTC): the instant that decides price and month, not the instant of sending.
    `traceparent` is W3C Trace Context; like offsets it is outside every payload hash.
    """

    id: str
    source: str
    type: str
    subject: str
    time: Instant
    dataschema: str
    data: Data
    specversion: Literal["1.0"] = "1.0"
    traceparent: str | None = None


class EventHead(msgspec.Struct, frozen=True, kw_only=True):
    """What can be read of an event without knowing its type: for routing, parking and listing."""

    id: str
    type: str
    subject: str
    time: Instant
