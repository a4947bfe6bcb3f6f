"""The spool on disk: records, segments and folders. A record is length, CRC-32 and payload; a torn tail is cut.

A crash tears the end of the newest segment alone. Other bytes that are no record are damage: it hides no record behind.

A payload begins with its kind: an intent (a request is about to be dispatched) or an end (its usage event, ready to
publish). Both name their request, so that an intent without an end tells of a gateway that died.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas import codec
from schemas.usage import BillingMode, Endpoint, TokensUsed

_HEADER = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
RECORD_BYTES_MAX = 1 << 20
INTENT, END = b"I", b"E"
_SEGMENT = re.compile(r"\d{12}\.spool")
_RECORD_START = re.compile(rb"(?=..[\x00-\x10]\x00.{4}[%b%b])" % (INTENT, END), re.DOTALL)
"""Where a record may begin: a length up to RECORD_BYTES_MAX, any checksum, a kind."""
LOCK_NAME = "lock"
DAMAGED_SUFFIX = ".damaged"
USAGE_SOURCE = "/hydra/gateway"


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """What is known before dispatch. Fields are only ever added at the end, so that any release adopts any spool."""

    request_id: str
    account: str
    key_id: str
    access_path: str
    endpoint: Endpoint
    streamed: bool
    received: datetime
    service_id: str
    model: str
    region: str
    billing: BillingMode
    instance: str
    epoch: int
    client_request_id: str | None
    gateway: str
    time_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """A finished request: its usage event as it is published, and the account that is the message's key."""

    request_id: str
    account: str
    event: bytes


_intent_encoder = msgspec.msgpack.Encoder()
_intent_decoder = msgspec.msgpack.Decoder(Intent)


def _record(payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def intent_record(intent: Intent) -> bytes:
    return _record(INTENT + _intent_encoder.encode(intent))


def end_record(request_id: str, account: str, event: bytes) -> bytes:
    return _record(b"%b%b %b %b" % (END, request_id.encode(), account.encode(), event))


def parsed(payload: bytes) -> Intent | End:
    """Raises ValueError (msgspec's errors are of that class) where the payload is none of ours."""
    kind = payload[:1]
    if kind == INTENT:
        return _intent_decoder.decode(payload[1:])
    if kind == END:
        return end_of(payload)
    raise ValueError(f"unknown kind of spool record {kind!r}")


def end_of(payload: bytes) -> End:
    """The end in a payload of that kind. Raises ValueError where it is none."""
    request_id, account, event = payload[1:].split(b" ", 2)
    return End(request_id.decode(), account.decode(), event)


def payloads(data: bytes, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each whole record's payload and the offset behind it, up to the first that is torn."""
    total = len(data)
    while offset + HEADER_BYTES <= total:
        length, checksum = _HEADER.unpack_from(data, offset)
        end = offset + HEADER_BYTES + length
        if length == 0 or length > RECORD_BYTES_MAX or end > total:
            return
        payload = data[offset + HEADER_BYTES : end]
        if zlib.crc32(payload) != checksum:
            return
        yield payload, end
        offset = end


def _next_record(data: bytes, offset: int) -> int | None:
    """Where the next whole record begins, at any byte from `offset` on."""
    for match in _RECORD_START.finditer(data, offset):
        if next(payloads(data, match.start()), None) is not None:
            return match.start()
    return None


def salvaged(data: bytes) -> tuple[list[bytes], int, bool]:
    """The payload of every whole record, the offset behind the last, and whether there was damage before that."""
    found: list[bytes] = []
    offset, damaged = 0, False
    while True:
        for payload, following in payloads(data, offset):
            found.append(payload)
            offset = following
        start = _next_record(data, offset + 1) if offset < len(data) else None
        if start is None:
            return found, offset, damaged
        offset, damaged = start, True


def check_records(path: Path) -> None:
    """Raises ValueError where a whole record of this segment is none of ours, OSError where the file cannot be read."""
    for payload in salvaged(path.read_bytes())[0]:
        parsed(payload)


def cut_torn_end(path: Path) -> int:
    """Cut what a crash has left behind the newest segment's last record; returns the bytes cut.

    For a gateway that is about to write newer ones: behind those a torn end would be damage. What is damaged stays.
    """
    data = path.read_bytes()
    _, end, damaged = salvaged(data)
    if damaged or end == len(data):
        return 0
    os.truncate(path, end)
    return len(data) - end


def lost_usage(intent: Intent) -> TokensUsed:
    """The usage of a request whose gateway died: from the intent alone, so every adopter builds the same."""
    return TokensUsed(
        request_id=intent.request_id,
        account=intent.account,
        key_id=intent.key_id,
        access_path=intent.access_path,
        endpoint=intent.endpoint,
        streamed=intent.streamed,
        received=intent.received,
        ended=intent.received,
        outcome="gateway_lost",
        status=0,
        service_id=intent.service_id,
        model=intent.model,
        region=intent.region,
        billing=intent.billing,
        instance=intent.instance,
        epoch=intent.epoch,
        client_request_id=intent.client_request_id,
        gateway=intent.gateway,
        time_doubtful=intent.time_doubtful,
    )


def usage_event(usage: TokensUsed) -> bytes:
    """The CloudEvents message of one request's usage: id the request's, time its end."""
    return codec.encode(
        codec.event(usage, id=usage.request_id, source=USAGE_SOURCE, subject=usage.account, time=usage.ended)
    )


def segments(folder: Path) -> list[Path]:
    """A spool's segments, oldest first."""
    return sorted(path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name))


def sync(paths: list[Path]) -> None:
    """Have all that these files of one folder hold on disk, and their names. Raises OSError."""
    for path, synced in (*((path, os.fdatasync) for path in paths), *((path.parent, os.fsync) for path in paths[:1])):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            synced(handle)
        finally:
            os.close(handle)


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}.spool"


class LeftBehind(NamedTuple):
    """One usage event that a dead gateway has not published for sure. `lost`: made from the intent alone."""

    account: str
    event: bytes
    lost: bool


def left_behind(paths: list[Path], damaged: list[Path] | None = None) -> Iterator[LeftBehind]:
    """All that a dead gateway's segments hold: its ends, then one event per intent without one.

    `paths` are all of them, oldest first. `damaged` is given each in which something cannot be read that was on disk.
    """
    open_intents: dict[str, Intent] = {}
    # Kept to the end: after a write that failed in part, an intent may stand once more behind its request's end.
    ended: set[str] = set()
    for path in paths:
        data = path.read_bytes()
        found, end, broken = salvaged(data)
        if damaged is not None and (broken or (end < len(data) and path is not paths[-1])):
            damaged.append(path)
        for payload in found:
            record = parsed(payload)
            if isinstance(record, End):
                open_intents.pop(record.request_id, None)
                ended.add(record.request_id)
                yield LeftBehind(record.account, record.event, lost=False)
            elif record.request_id not in ended:
                open_intents[record.request_id] = record
    for intent in open_intents.values():
        yield LeftBehind(intent.account, usage_event(lost_usage(intent)), lost=True)


class FolderLock:
    """An exclusive lock on a spool's folder, held by an open file: the kernel lets go of it when the process dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._handle: int | None = None

    def take(self) -> bool:
        """Whether the lock is ours now; False where another process has it or the folder is being removed."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.fstat(handle).st_ino == self._path.stat().st_ino
        except OSError:
            same = False
        if not same:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def remove_folder(self) -> None:
        """Remove the folder, which holds nothing but the lock, while it is ours. Raises OSError where it holds more."""
        self._path.unlink(missing_ok=True)
        self._path.parent.rmdir()

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
