"""What makes two events the same: a hash over the fields that bear on the price, named per event version.

Offsets, ingest times, traces, gateways' names and what later releases add are outside it, so a replay by any
later release gives the same hash. The lists below never change; a new event version gets a new list.
"""

from __future__ import annotations

from hashlib import sha256
from operator import attrgetter

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

_encoded = msgspec.json.Encoder(decimal_format="string", order="sorted").encode

_usage_v1 = attrgetter(*USAGE_V1)
_instance_v1 = attrgetter(*INSTANCE_V1)
_price_v1 = attrgetter(*PRICE_V1)
_charge_v1 = attrgetter(*CHARGE_V1)


def _hash(values: tuple[object, ...]) -> str:
    return sha256(_encoded(values)).hexdigest()[:32]


def of_usage(data: TokensUsed) -> str:
    """32 hex characters (128 bits of SHA-256)."""
    return _hash(_usage_v1(data))


def of_instance(data: InstanceChanged) -> str:
    return _hash(_instance_v1(data))


def of_price(data: PriceRecorded) -> str:
    return _hash(_price_v1(data))


def of_charge(line: ChargeLine, source_hash: str) -> str:
    """A charge's hash covers its source's; `line.payload_hash` itself is outside it."""
    return _hash((source_hash, *_charge_v1(line)))
