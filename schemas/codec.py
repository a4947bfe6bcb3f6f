"""Events to bytes and back. Decoding ignores unknown fields; it raises msgspec.DecodeError or ValidationError."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from schemas.envelope import Event, EventHead
from schemas.topics import EVENT_TYPES, TYPE_NAMES

Data = TypeVar("Data", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder(decimal_format="string")
_head = msgspec.json.Decoder(EventHead)
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Event[msgspec.Struct]]] = {
    # The subscript is made at run time from the table of types, which no static checker can follow.
    struct: msgspec.json.Decoder(Event[struct])  # type: ignore[valid-type]
    for struct in EVENT_TYPES.values()
}
_names = {struct: (name, f"hydra:schemas/{name}.json") for struct, name in TYPE_NAMES.items()}
# msgspec lets these two through; to readers they are bytes that cannot be decoded like any other.
_UNREADABLE = {UnicodeDecodeError: "text that is not UTF-8", RecursionError: "nested too deeply"}


def event(
    data: Data, *, id: str, source: str, subject: str, time: datetime, traceparent: str | None = None
) -> Event[Data]:
    """An event of `data`'s type. `source` is `/hydra/<process>`; `time` must be an aware UTC instant."""
    name, dataschema = _names[type(data)]
    return Event(
        id=id,
        source=source,
        type=name,
        subject=subject,
        time=time,
        dataschema=dataschema,
        data=data,
        traceparent=traceparent,
    )


def encode(message: Event[Data]) -> bytes:
    """The event as one JSON object; decimals are strings, instants RFC 3339 in UTC."""
    return _encoder.encode(message)


def decode_head(raw: bytes) -> EventHead:
    """The envelope alone, of any type."""
    try:
        return _head.decode(raw)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(_UNREADABLE[type(error)]) from error


def decode(raw: bytes, data_type: type[Data]) -> Event[Data]:
    """The event, its data of `data_type`; an event of another type raises msgspec.ValidationError."""
    try:
        message = _decoders[data_type].decode(raw)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(_UNREADABLE[type(error)]) from error
    if message.type != TYPE_NAMES[data_type]:
        raise msgspec.ValidationError(f"event type {message.type!r}, expected {TYPE_NAMES[data_type]!r}")
    return message  # type: ignore[return-value]  # the decoder was chosen by data_type
