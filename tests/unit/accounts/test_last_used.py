"""What the list of keys learns from usage, and what it passes over."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from schemas import codec
from schemas.usage import TokensUsed
from services.accounts.last_used import newest_uses
from tests.builders.billing_events import usage, usage_event

OURS = usage(key_id="k-00000000000a")
NUL = usage(key_id="k-\0")
# In UTC it would be before the year 1, where there is no datetime.
TOO_EARLY = usage(key_id="k-00000000000b", received=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8))))


def encoded(data: TokensUsed) -> bytes:
    return codec.encode(usage_event(data))


@pytest.mark.parametrize("garbage", [None, b"", b"\xff", b"{}", b"[" * 5_000, encoded(NUL), encoded(TOO_EARLY)])
def test_what_is_no_usage_is_passed_over(garbage: bytes | None) -> None:
    assert newest_uses([garbage, encoded(OURS), garbage]) == {OURS.key_id: OURS.received}


def test_the_newest_use_counts_in_whatever_order() -> None:
    later = usage(key_id=OURS.key_id, received=OURS.received + timedelta(seconds=5))
    assert newest_uses([encoded(later), encoded(OURS)]) == {OURS.key_id: later.received}
