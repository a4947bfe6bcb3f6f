"""The spool on disk: torn tails, room, rotation, what outlives what, and adoption."""

import asyncio
import errno
import os
import random
import threading
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.usage import TokensUsed
from services.gateway import spool_files
from services.gateway.spool import Spool
from services.gateway.spool_files import End, FolderLock, Intent, LeftBehind, left_behind, parsed, payloads, segments
from tests.servers.gateway_in_process import until

START = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


def intent(number: int) -> Intent:
    return Intent(
        f"cmp-{number:032x}",
        "u-0123456789ab",
        "k-0123456789ab",
        "public/m",
        "chat.completions",
        True,
        START,
        "s-0123456789ab",
        "m",
        "sh-02",
        "token",
        "i-0123456789ab",
        3,
        "mine",
        "g-dead",
    )


def spool(folder: Path, **fields: Any) -> Spool:
    known = {"bytes_max": 1 << 20, "segment_bytes": 1 << 16, "sync": "write"}
    return Spool(folder, asyncio.get_running_loop(), **(known | fields))


async def append(spool: Spool, number: int, *, end: bool = True) -> None:
    """One request's records, and wait for their release."""
    done = asyncio.Event()
    assert spool.reserve()
    spool.append_intent(intent(number), lambda: None if end else done.set())
    if end:
        spool.append_end(f"cmp-{number:032x}", "u-0123456789ab", b"x" * 500, done.set)
    await done.wait()


def records(folder: Path) -> list[Intent | End]:
    return [parsed(payload) for path in segments(folder) for payload, _ in payloads(path.read_bytes())]


def test_records_come_back_as_written() -> None:
    data = spool_files.intent_record(intent(1)) + spool_files.end_record("cmp-1", "u-1", b'{"a b":1}')
    assert [parsed(payload) for payload, _ in payloads(data)] == [intent(1), End("cmp-1", "u-1", b'{"a b":1}')]


def test_a_torn_or_damaged_tail_is_cut_at_any_byte() -> None:
    whole = [spool_files.intent_record(intent(number)) for number in range(3)]
    data = b"".join(whole)
    for length in range(len(data)):
        found = [parsed(payload) for payload, _ in payloads(data[:length])]
        complete = length // len(whole[0])
        assert found == [intent(number) for number in range(complete)]
    draw = random.Random(1)
    for _ in range(200):
        damaged = bytearray(data)
        at = draw.randrange(len(data))
        damaged[at] ^= 1 << draw.randrange(8)
        found = [parsed(payload) for payload, _ in payloads(bytes(damaged))]
        assert found == [intent(number) for number in range(at // len(whole[0]))]


def test_an_intent_without_an_end_becomes_one_event_the_same_from_any_adopter(tmp_path: Path) -> None:
    event = b'{"id":"done"}'
    first = spool_files.intent_record(intent(1)) + spool_files.intent_record(intent(2))
    spool_files.segment_path(tmp_path, 1).write_bytes(first)
    spool_files.segment_path(tmp_path, 2).write_bytes(
        spool_files.end_record(intent(1).request_id, "u-0123456789ab", event)
        + spool_files.intent_record(intent(2))  # carried over: still one event
        + b"torn"
    )
    left = list(left_behind(segments(tmp_path)))
    assert left == list(left_behind(segments(tmp_path)))
    assert left[0] == LeftBehind("u-0123456789ab", event, lost=False) and len(left) == 2
    assert left[1].lost
    lost = codec.decode(left[1].event, TokensUsed)
    assert lost.id == lost.data.request_id == intent(2).request_id
    assert lost.time == lost.data.ended == lost.data.received == START
    assert (lost.data.outcome, lost.data.prompt_tokens, lost.data.gateway) == ("gateway_lost", None, "g-dead")


def test_an_intent_that_stands_again_behind_its_end_is_no_lost_request(tmp_path: Path) -> None:
    both = spool_files.intent_record(intent(1)) + spool_files.end_record(intent(1).request_id, "u-0123456789ab", b"{}")
    spool_files.segment_path(tmp_path, 1).write_bytes(both + b"torn")
    spool_files.segment_path(tmp_path, 2).write_bytes(spool_files.intent_record(intent(1)) + b"torn again")
    assert list(left_behind(segments(tmp_path))) == [LeftBehind("u-0123456789ab", b"{}", lost=False)]


def test_adopting_holds_no_intent_of_a_request_that_ended(tmp_path: Path) -> None:
    count = 4000
    for start in range(0, count, 100):
        records = [
            spool_files.intent_record(intent(number))
            + spool_files.end_record(intent(number).request_id, "u-0123456789ab", b"{}")
            for number in range(start, start + 100)
        ]
        spool_files.segment_path(tmp_path, start).write_bytes(b"".join(records))
    found = segments(tmp_path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in left_behind(found)) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / count < 500, "bytes for each request that ended"


async def test_segments_go_once_published_and_take_no_running_request_with_them(tmp_path: Path) -> None:
    made = spool(tmp_path)
    await append(made, 0, end=False)  # a long stream
    for number in range(1, 400):
        await append(made, number)
    assert len(segments(tmp_path)) > 2
    before = made.bytes_used
    while (found := made.unpublished(1 << 16)) is not None:
        segment, data = found
        *_, (_, offset) = payloads(data)
        made.mark_published(segment, segment.published + offset)
    assert len(segments(tmp_path)) == 1 and made.bytes_used < before
    assert made.bytes_unpublished == 0, "what was written again is read like the rest"
    assert intent(0) in records(tmp_path), "the running request's intent must stay on disk"
    made.append_end(intent(0).request_id, "u-0123456789ab", b"the end", lambda: None)
    made.close()
    assert not [left for left in left_behind(segments(tmp_path)) if left.lost]


async def test_an_end_never_goes_before_its_intent(tmp_path: Path) -> None:
    """Were a later segment removed first, an adopter would call its requests lost and contradict their events."""
    made = spool(tmp_path)
    for number in range(400):
        await append(made, number)
    first, second = made.segments[0], made.segments[1]
    made.mark_published(second, second.size)
    assert second.path.exists() and first.path.exists()
    made.mark_published(first, first.size)
    assert not first.path.exists() and not second.path.exists()


async def test_room_for_the_end_is_reserved_at_admission(tmp_path: Path) -> None:
    made = spool(tmp_path)
    admitted = 0
    while made.reserve():
        made.append_intent(intent(admitted), lambda: None)
        admitted += 1
    for number in range(admitted):
        made.append_end(intent(number).request_id, "u-0123456789ab", b"x" * 3000, lambda: None)
    await asyncio.sleep(0.05)
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 1 << 20
    assert len(records(tmp_path)) == 2 * admitted


async def test_one_tick_is_one_write(tmp_path: Path) -> None:
    writes: list[int] = []

    def write(handle: int, data: bytes) -> int:
        writes.append(len(data))
        return os.write(handle, data)

    made = spool(tmp_path, write=write)
    for number in range(20):
        assert made.reserve()
        made.append_intent(intent(number), lambda: None)
    await asyncio.sleep(0.05)
    assert len(writes) == 1


@pytest.mark.parametrize("sync", ["write", "fdatasync"])
async def test_what_was_cut_short_is_written_again_whole(tmp_path: Path, sync: Any) -> None:
    failures = 2
    released: list[int] = []

    def write(handle: int, data: bytes) -> int:
        nonlocal failures
        if failures:
            failures -= 1
            return os.write(handle, data[:-3])
        return os.write(handle, data)

    made = spool(tmp_path, write=write, sync=sync)
    assert made.reserve()
    made.append_intent(intent(1), lambda: released.append(1))
    await asyncio.sleep(0.05)
    assert released == [] and not made.healthy and not made.reserve()
    made.append_end(intent(1).request_id, "u-0123456789ab", b"end", lambda: released.append(2))
    await until(lambda: released == [1, 2])
    assert len(records(tmp_path)) == 2 and made.healthy


def kinds(data: bytes) -> list[bytes]:
    return [payload[:1] for payload, _ in payloads(data)]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def publish_all(spool: Spool) -> None:
    """What a publisher does while Kafka takes everything."""
    while (found := spool.unpublished(1 << 20)) is not None:
        segment, data = found
        spool.mark_published(segment, segment.published + len(data))


async def test_an_end_is_not_published_before_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power may go before the sync is over: an adopter that finds no end says `gateway_lost` under the same id."""
    may_sync = threading.Event()
    may_sync.set()
    sync = os.fdatasync

    def held(handle: int) -> None:
        may_sync.wait(60)
        sync(handle)

    monkeypatch.setattr(os, "fdatasync", held)
    made = spool(tmp_path, sync="fdatasync")
    await append(made, 1, end=False)
    await until(lambda: made.settled)
    may_sync.clear()
    released: list[int] = []
    made.append_end(intent(1).request_id, "u-0123456789ab", b"x", lambda: released.append(1))
    try:
        await until(lambda: len(records(tmp_path)) == 2)
        found = made.unpublished(1 << 20)
        assert found is not None and kinds(found[1]) == [spool_files.INTENT] and released == []
        publish_all(made)
        assert made.unpublished(1 << 20) is None and made.bytes_unpublished > 0
    finally:
        may_sync.set()
    await until(lambda: released == [1])
    found = made.unpublished(1 << 20)
    assert found is not None and kinds(found[1]) == [spool_files.END]
    publish_all(made)
    assert made.close() and segments(tmp_path) == []


async def test_a_segment_that_cannot_be_made_durable_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one EIO or EMFILE on the folder makes it: the file is there already, and would stand in the next one's way."""
    handles = open_files()
    made = spool(tmp_path, sync="fdatasync", segment_bytes=100)
    await append(made, 1, end=False)
    await until(lambda: made.settled)
    failures = 2
    sync = os.fsync

    def failing(handle: int) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EIO, "input/output error")
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    released: list[int] = []
    made.append_end(intent(1).request_id, "u-0123456789ab", b"x", lambda: released.append(1))
    await until(lambda: not made.healthy)
    assert not made.reserve() and made.write_failures
    await until(lambda: released == [1])
    assert made.healthy and len(records(tmp_path)) == 2 and len(segments(tmp_path)) == 2
    publish_all(made)
    assert made.close()
    assert open_files() <= handles


class _Ended(Exception):
    """Stands for the end of the process."""


async def test_a_copied_intent_that_cannot_be_synced_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes stand in the newest segment, and what is written behind them would not be where it is looked for."""
    made = spool(tmp_path, sync="fdatasync", segment_bytes=100)
    await append(made, 1, end=False)
    await append(made, 2)
    await until(lambda: made.settled)

    def failing(handle: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    def ended(code: int) -> None:
        raise _Ended(code)

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(_Ended):
        publish_all(made)
    assert [path.name for path in segments(tmp_path)] == ["000000000001.spool", "000000000002.spool"]


@pytest.mark.parametrize("sync", ["write", "fdatasync"])
async def test_an_intent_stays_on_disk_until_its_end_is_there(tmp_path: Path, sync: Any) -> None:
    """A gateway killed while its disk is full still leaves the request's `gateway_lost`."""
    full = False

    def write(handle: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return os.write(handle, data)

    made = spool(tmp_path, sync=sync, segment_bytes=100, write=write)
    await append(made, 1, end=False)
    await append(made, 2)
    await until(lambda: made.settled)
    full = True
    released: list[int] = []
    made.append_end(intent(1).request_id, "u-0123456789ab", b"the end", lambda: released.append(1))
    await until(lambda: not made.healthy)
    publish_all(made)
    assert [left.lost for left in left_behind(segments(tmp_path))] == [False, True]
    full = False
    await until(lambda: released == [1])
    publish_all(made)
    assert not [left for left in left_behind(segments(tmp_path)) if left.lost]
    assert made.close(), "the intent of a request that ended keeps nothing"


def test_a_folder_is_locked_by_one_and_free_when_let_go(tmp_path: Path) -> None:
    one, two = FolderLock(tmp_path), FolderLock(tmp_path)
    assert one.take() and not two.take()
    one.release()
    assert two.take()
    two.release()
    assert not FolderLock(tmp_path / "absent").take()
