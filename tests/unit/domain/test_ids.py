"""Shapes of ids, and that those of events are derived."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest

from domain import ids

ENTROPY = bytes(range(32))


@pytest.mark.parametrize(
    ("made", "expected", "shape"),
    [
        (ids.account_id, "u-000102030405", ids.ACCOUNT),
        (ids.service_id, "s-000102030405", ids.SERVICE),
        (ids.instance_id, "i-000102030405", ids.INSTANCE),
        (ids.node_id, "n-000102030405", ids.NODE),
        (ids.key_id, "k-000102030405", ids.KEY_ID),
        (ids.request_id, "cmp-000102030405060708090a0b0c0d0e0f", ids.REQUEST),
        (ids.api_key, "sk-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", ids.KEY),
    ],
)
def test_shapes(made: Callable[[bytes], str], expected: str, shape: re.Pattern[str]) -> None:
    assert made(ENTROPY) == expected
    assert shape.fullmatch(expected)
    with pytest.raises(ValueError):
        made(b"\x00")


def test_a_key_is_stored_as_its_hash_and_shown_masked() -> None:
    key = ids.api_key(ENTROPY)
    assert ids.key_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ids.masked_key(key) == "sk-AAEC...dHh8"
    assert len(ids.masked_key(key)) == 14


KEY = ids.api_key(ENTROPY)
TOKEN = f"op-{KEY[3:]}"


def encoded(text: str, times: int) -> str:
    """Every character percent-encoded, so many times."""
    for _ in range(times):
        text = "".join(f"%{byte:02X}" for byte in text.encode()) if "%" not in text else quote(text)
    return text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (KEY, "sk-AAEC...dHh8"),
        (TOKEN, "op-AAEC...dHh8"),
        (f"/v1/accounts/me/keys/{KEY}", "/v1/accounts/me/keys/sk-AAEC...dHh8"),
        (f'{{"a":"{KEY}","b":"{TOKEN}"}}', '{"a":"sk-AAEC...dHh8","b":"op-AAEC...dHh8"}'),
        (f"Bearer{KEY}?key={KEY}", "Bearersk-AAEC...dHh8?key=sk-AAEC...dHh8"),
        (f"public/{KEY.lower()}", "public/sk-aaec...dhh8"),
        (KEY[:-8], "sk-AAEC...XGBk"),
    ],
)
def test_a_key_is_masked_wherever_it_stands(text: str, masked: str) -> None:
    assert ids.with_keys_masked(text) == masked


@pytest.mark.parametrize(
    "hidden",
    [
        KEY.replace("-", "%2d", 1),
        KEY.replace("-", "%252D", 1),
        *(encoded(secret, times) for secret in (KEY, TOKEN) for times in (1, 2, 3)),
    ],
)
def test_a_percent_encoded_key_is_masked_too(hidden: str) -> None:
    assert ids.with_keys_masked(f"/keys/{hidden}/x") == f"/keys/{ids.masked_key(hidden)}/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ids.key_hash(KEY),
        ids.masked_key(KEY),
        f"{ids.instance_id(ENTROPY)} {ids.key_id(ENTROPY)} {ids.request_id(ENTROPY)}",
        "desk-clerk-of-the-front-office",
        "op-3f2b8a8e-9c1d-4e0e-9a1b-2d6f0c1e7a55",
        "task-3f2b8a8e-9c1d-4e0e-9a1b-2d6f0c1e7a55",
        "shop-3f2b8a8e9c1d4e0e9a1b2d6f0c1e7a55",
        KEY[:-12],
    ],
)
def test_what_is_no_key_stays_as_it_is(text: str) -> None:
    assert ids.with_keys_masked(text) == text


def test_masking_ends_for_text_that_is_made_to_be_hard() -> None:
    hard = ("sk-" + "%25" * 20 + "!") * 20_000
    assert ids.with_keys_masked(hard) == hard


def test_in_what_is_stored_only_whole_keys_are_masked() -> None:
    assert ids.with_whole_keys_masked(f"{KEY} {TOKEN}") == "sk-AAEC...dHh8 op-AAEC...dHh8"
    kept = f"helpdesk-assistant-for-europe-production-v2 {KEY[:-1]} {KEY}x task{KEY}"
    assert ids.with_whole_keys_masked(kept) == kept


def test_ids_of_events_are_derived_from_what_happened() -> None:
    at = datetime(2026, 11, 20, 12, 30, 1, 5, tzinfo=UTC)
    assert ids.instance_event_id("i-0123456789ab", 2, 7) == "i-0123456789ab-2-7"
    assert ids.heartbeat_id("i-0123456789ab", 2, 9) == "i-0123456789ab-2-9"
    assert ids.charges_event_id("cmp-1", 1) == "cmp-1/charges/1"
    assert ids.charge_id("cmp-1", "output_tokens", ids.stamp(at), 1) == "cmp-1/output_tokens/20261120T123001000005Z/1"
    assert ids.stamp(at.replace(second=0, microsecond=0)) == "20261120T123000000000Z"
    in_shanghai = at.astimezone(timezone(timedelta(hours=8)))
    assert ids.stamp(in_shanghai) == ids.stamp(at)
    assert ids.price_event_id("m/input_tokens", 3) == "m/input_tokens@3"
    assert ids.access_path("u-1", "test") == "u-1/test"


@pytest.mark.parametrize("name", ["A", "a", "a" * 65, "ä1", "a_b", "a b", ""])
def test_what_is_no_service_name(name: str) -> None:
    assert ids.SERVICE_NAME.fullmatch(name) is None
