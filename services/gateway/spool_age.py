"""How long the oldest finished request has waited in the spool for Kafka: read from the files when someone asks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas import codec
from services.gateway.spool import Segment
from services.gateway.spool_files import End, parsed, payloads

READ_BYTES_MAX = 1 << 20
"""Of each segment. Only running requests' intents can stand before its first end, and they are small."""


def oldest_unpublished(segments: Iterable[Segment]) -> datetime | None:
    """When the oldest request ended whose usage Kafka does not have yet; None where nothing waits."""
    for segment in segments:
        count = min(READ_BYTES_MAX, segment.size - segment.published)
        if count <= 0:
            continue
        for payload, _ in payloads(os.pread(segment.handle, count, segment.published)):
            record = parsed(payload)
            if isinstance(record, End):
                return _ended(record)
    return None


def _ended(record: End) -> datetime | None:
    try:
        return codec.decode_head(record.event).time
    except msgspec.DecodeError:  # then its age is not known; that it cannot be read is the publisher's to tell
        return None
