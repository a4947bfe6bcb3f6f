"""`hydra.parked`: messages that could not be processed, whole, with the reason, for replay. Kept for ever."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

ParkedReason = Literal["undecodable", "invalid", "unpriced", "too_large", "unknown_type"]


class MessageParked(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.parked.v1`, key and id `<processor>/<topic>/<partition>/<offset>`: repeats of one parking are one.

    `key` and `value` are the original bytes (base64 in JSON). `detail` says what was wrong in one sentence and
    quotes no field of the message. `value_bytes` is set where they were too many to be kept: then `key` and `value` are
    left out, and the message has only its own topic.
    """

    processor: str
    topic: str
    partition: Count
    offset: Count
    reason: ParkedReason
    detail: str
    parked_at: Instant
    value: bytes
    key: bytes | None = None
    value_bytes: Count | None = None


class ParkedReplayed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.parked-replayed.v1`, same topic and key: the message was published again to its topic."""

    processor: str
    topic: str
    partition: Count
    offset: Count
    replayed_at: Instant
