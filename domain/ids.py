"""Ids: their shapes, and how those of events are derived. Entropy is handed in; nothing here draws it."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime

import msgspec

OPERATOR_ACCOUNT = "public"
"""The operator's own account: its services are the shared models."""

ACCOUNT = re.compile(r"public|u-[0-9a-f]{12}")
INSTANCE = re.compile(r"i-[0-9a-f]{12}")
NODE = re.compile(r"n-[0-9a-f]{12}")
SERVICE = re.compile(r"s-[0-9a-f]{12}")
KEY_ID = re.compile(r"k-[0-9a-f]{12}")
KEY = re.compile(r"sk-[A-Za-z0-9_-]{43}")
REQUEST = re.compile(r"cmp-[0-9a-f]{32}")
SERVICE_NAME = re.compile(r"[a-z0-9-]{2,64}")
_WHOLE_KEY = re.compile(r"(?<![A-Za-z0-9_-])(?:sk|op)-[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
# A key (`sk-`) or the operator's token (`op-`), however often percent-encoded. From 32 of its 43 characters on, because
# whoever copies one may miss its end, and text is cut: what lacks of a shorter piece cannot be guessed. An id like
# `task-<uuid>` is none.
_KEY_IN_TEXT = re.compile(
    r"(?:s|o|%(?:25)*(?:73|6[Ff]))(?:k|p|%(?:25)*(?:6[Bb]|70))(?:-|%(?:25)*2[Dd])"
    r"(?![0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}(?![A-Za-z0-9_-]))"
    r"(?>[A-Za-z0-9_-]|%(?:25)*[0-9A-Fa-f]{2}){32,}"
)

_instants = msgspec.json.Encoder()

ENTROPY_BYTES = 32
"""What the functions below want: 32 random bytes; they use as many as the id holds."""


def _tagged(tag: str, entropy: bytes, digits: int) -> str:
    if len(entropy) < digits // 2:
        raise ValueError(f"{digits // 2} random bytes needed for a {tag!r} id, got {len(entropy)}")
    return f"{tag}-{entropy.hex()[:digits]}"


def account_id(entropy: bytes) -> str:
    """`u-<12 hex>`."""
    return _tagged("u", entropy, 12)


def service_id(entropy: bytes) -> str:
    """`s-<12 hex>`; a service name that is used again gets a new one."""
    return _tagged("s", entropy, 12)


def instance_id(entropy: bytes) -> str:
    """`i-<12 hex>`, never reused."""
    return _tagged("i", entropy, 12)


def node_id(entropy: bytes) -> str:
    """`n-<12 hex>`."""
    return _tagged("n", entropy, 12)


def key_id(entropy: bytes) -> str:
    """`k-<12 hex>`: how events name an API key."""
    return _tagged("k", entropy, 12)


def request_id(entropy: bytes) -> str:
    """`cmp-<32 hex>`."""
    return _tagged("cmp", entropy, 32)


def api_key(entropy: bytes) -> str:
    """`sk-` and 43 base64url characters: the key itself, shown once."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"an API key is made of {ENTROPY_BYTES} random bytes, got {len(entropy)}")
    return "sk-" + base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()


def key_hash(key: str) -> str:
    """SHA-256 of the key in hex: what is stored and published."""
    return hashlib.sha256(key.encode()).hexdigest()


def masked_key(key: str) -> str:
    """The first 7 and the last 4 characters, as a key is shown after its creation."""
    return f"{key[:7]}...{key[-4:]}"


def with_keys_masked(text: str) -> str:
    """`text` with whatever looks like an API key or the operator's token masked: for what people read, such as logs."""
    return _KEY_IN_TEXT.sub(lambda found: masked_key(found[0]), text)


def with_whole_keys_masked(text: str) -> str:
    """`text` with each whole API key or operator's token masked, and nothing else touched: for what is stored."""
    return _WHOLE_KEY.sub(lambda found: masked_key(found[0]), text)


def access_path(account: str, name: str) -> str:
    """`<account>/<service>`: the model's name in a request."""
    return f"{account}/{name}"


def instance_event_id(instance: str, epoch: int, sequence: int) -> str:
    return f"{instance}-{epoch}-{sequence}"


def heartbeat_id(instance: str, epoch: int, beat: int) -> str:
    return f"{instance}-{epoch}-{beat}"


def charges_event_id(source_event: str, rating_version: int) -> str:
    """One `charges` message carries all lines of one source event."""
    return f"{source_event}/charges/{rating_version}"


def charge_id(source_event: str, meter: str, segment_from: str, rating_version: int) -> str:
    """Derived from (source event, meter, `stamp` of the segment's start, rating version): a replay gives the same."""
    return f"{source_event}/{meter}/{segment_from}/{rating_version}"


def stamp(instant: datetime) -> str:
    """An instant as it stands in a charge's id: `20261120T123001000005Z`."""
    # What "%Y%m%dT%H%M%S%fZ" writes, without strftime, which was the largest single cost of rating a request.
    written = _instants.encode(instant.astimezone(UTC)).translate(None, b'-:."').decode()
    return f"{written[:-1]}000000Z" if instant.microsecond == 0 else written


def price_event_id(price_id: str, version: int) -> str:
    return f"{price_id}@{version}"
