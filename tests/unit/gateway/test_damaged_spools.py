"""What a crash leaves at a spool's end is no damage; whatever else cannot be read is, and hides nothing behind it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from services.gateway.spool_files import (
    Intent,
    cut_torn_end,
    end_record,
    intent_record,
    left_behind,
    segment_path,
    segments,
)

ACCOUNT = "u-0123456789ab"
START = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
COUNT = 4


def end(number: int) -> bytes:
    return end_record(f"cmp-{number:032x}", ACCOUNT, b'{"number":%d,"filling":"%b"}' % (number, b"x" * 300))


def intent(number: int) -> bytes:
    known = Intent(
        f"cmp-{number:032x}", ACCOUNT, "k-0123456789ab", "public/m", "chat.completions", True, START,
        "s-0123456789ab", "m", "sh-02", "token", "i-0123456789ab", 3, "mine", "g-dead",
    )  # fmt: skip
    return intent_record(known)


def read(folder: Path) -> tuple[set[int], list[Path]]:
    """The numbers of the ends that can be read, and what is damaged."""
    damaged: list[Path] = []
    found = {int(left.event.split(b",")[0][10:]) for left in left_behind(segments(folder), damaged)}
    return found, damaged


def test_whole_records_behind_damage_are_read_and_the_damage_is_told(tmp_path: Path) -> None:
    """Any bit may have turned: in a length, a checksum, a payload."""
    data = b"".join(end(number) for number in range(COUNT))
    size = len(data) // COUNT
    path = segment_path(tmp_path, 1)
    draw = random.Random(7)
    for at in {draw.randrange(len(data)) for _ in range(300)} | set(range(size, size + 9)):
        bad = bytearray(data)
        bad[at] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        torn = at // size
        # Of the last record nobody can say whether it was damaged or never written whole.
        assert read(tmp_path) == (set(range(COUNT)) - {torn}, [] if torn == COUNT - 1 else [path]), at


def test_a_block_of_nothing_in_the_middle(tmp_path: Path) -> None:
    """As a loss of power leaves it: the file is as long as it was, and some of it was never written."""
    path = segment_path(tmp_path, 1)
    path.write_bytes(end(0) + bytes(50_000) + end(1) + b"\0" * 7 + end(2) + bytes(4096))
    assert read(tmp_path) == ({0, 1, 2}, [path])


def test_a_torn_end_is_ordinary_in_the_newest_segment_alone(tmp_path: Path) -> None:
    older, newest = segment_path(tmp_path, 1), segment_path(tmp_path, 2)
    for cut in (1, 7, 8, 9, len(end(1)) - 1):
        older.write_bytes(end(0))
        newest.write_bytes(end(1) + end(2)[:cut])
        assert read(tmp_path) == ({0, 1}, [])
        older.write_bytes(end(0) + end(3)[:cut])
        assert read(tmp_path) == ({0, 1}, [older]), "the next segment was begun when all of this one was on disk"


def test_an_intent_whose_end_stands_behind_damage_is_no_lost_request(tmp_path: Path) -> None:
    bad = bytearray(end(1))
    bad[20] ^= 1
    segment_path(tmp_path, 1).write_bytes(intent(0) + intent(2) + bytes(bad) + end(0))
    left = list(left_behind(segments(tmp_path)))
    assert [each.lost for each in left] == [False, True]


def test_a_gateway_that_starts_again_under_its_name_cuts_what_its_crash_has_torn(tmp_path: Path) -> None:
    """Else it would look like damage once a newer segment follows it."""
    path = segment_path(tmp_path, 1)
    path.write_bytes(end(0) + end(1)[:-1])
    assert cut_torn_end(path) == len(end(1)) - 1
    assert path.read_bytes() == end(0)
    assert cut_torn_end(path) == 0
    damaged = end(0) + b"?" + end(1)
    path.write_bytes(damaged)
    assert cut_torn_end(path) == 0 and path.read_bytes() == damaged, "damage is kept as it is"
