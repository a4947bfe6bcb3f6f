"""What makes two events the same: a hash over the fields that bear on the price, named per event version.

Offsets, ingest times, traces, gateways' names and what later releases add are outside it, so a replay by any
later release gives the same hash. The lists below never change; a new event version gets a new list.
"""

from __future__ import annotations

import hashlib

import msgspec

from schemas.charges import ChargeLine
from schemas.instances import InstanceChanged
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed

USAGE_V1 = (
    "request_id",
    "account",
    "key_id",
    "access_path",
    "service_id",
    "model",
    "region",
    "billing",
    "outcome",
    "ended",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)
INSTANCE_V1 = (
    "instance",
    "epoch",
    "sequence",
    "account",
    "service_id",
    "access_path",
    "model",
    "region",
    "spec",
    "billing",
    "interval",
)
PRICE_V1 = (
    "price_id",
    "version",
    "meter",
    "unit_price",
    "per",
    "currency",
    "effective_from",
    "effective_until",
    "source",
)
CHARGE_V1 = (
    "id",
    "meter",
    "quantity",
    "unit",
    "unit_price",
    "per",
    "amount",
    "currency",
    "price_id",
    "price_version",
    "segment_from",
    "segment_until",
)

_encoder = msgspec.json.Encoder(decimal_format="string", order="sorted")


def _hash(values: object) -> str:
    return hashlib.sha256(_encoder.encode(values)).hexdigest()[:32]


def _picked(data: msgspec.Struct, fields: tuple[str, ...]) -> str:
    return _hash([getattr(data, field) for field in fields])


def of_usage(data: TokensUsed) -> str:
    """32 hex characters (128 bits of SHA-256)."""
    return _picked(data, USAGE_V1)


def of_instance(data: InstanceChanged) -> str:
    return _picked(data, INSTANCE_V1)


def of_price(data: PriceRecorded) -> str:
    return _picked(data, PRICE_V1)


def of_charge(line: ChargeLine, source_hash: str) -> str:
    """A charge's hash covers its source's; `line.payload_hash` itself is outside it."""
    return _hash([source_hash, *(getattr(line, field) for field in CHARGE_V1)])
