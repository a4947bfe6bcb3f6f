"""A spool that cannot be adopted is told of, sends nothing by halves, and keeps no other from being adopted."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import pytest

from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from schemas.topics import Topic
from services.gateway.adoption import Adoption
from services.gateway.metrics import Metrics
from services.gateway.spool_files import end_record, segment_path
from tests.servers.gateway_in_process import until

ACCOUNT = "u-0123456789ab"
OF_A_LATER_RELEASE = b"?a record"


class KeepingProducer(EventProducer):
    """Keeps what it is given, and sends nothing; `away` as Kafka may be."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__("127.0.0.1:1")
        self.sent: list[bytes] = []
        self.calls = 0
        self._away = away

    async def publish_batch(self, topic: Topic, messages: list[tuple[str, bytes]]) -> None:
        self.calls += 1
        if self._away:
            raise Unavailable("Kafka does not answer")
        self.sent += [event for _, event in messages]


def adoption(root: Path, producer: EventProducer, metrics: Metrics) -> Adoption:
    return Adoption(root, root / "own", producer, metrics, interval_s=0.05, batch_max=1)


def folder(root: Path, name: str) -> Path:
    made = root / name
    made.mkdir()
    return made


def with_ends(folder: Path, *numbers: int) -> Path:
    """The folder, with a segment for each."""
    for number in numbers:
        segment_path(folder, number).write_bytes(end_record(f"cmp-{number:032x}", ACCOUNT, b"%d" % number))
    return folder


def unreadable(path: Path) -> Path:
    """A segment with an end, and behind it a whole record that this release does not know."""
    header = struct.pack("<II", len(OF_A_LATER_RELEASE), zlib.crc32(OF_A_LATER_RELEASE))
    path.write_bytes(end_record(f"cmp-{9:032x}", ACCOUNT, b"9") + header + OF_A_LATER_RELEASE)
    return path


def lock_is_a_folder(bad: Path) -> None:
    (bad / "lock").mkdir()


def segment_is_a_folder(bad: Path) -> None:
    segment_path(bad, 1).mkdir()


def stray_file(bad: Path) -> None:
    (bad / "notes").write_text("a person's")


BROKEN = {"lock": lock_is_a_folder, "segment": segment_is_a_folder, "stray file": stray_file}


@pytest.mark.parametrize("name", ["own", "dead"])
async def test_nothing_of_a_spool_leaves_before_all_of_it_is_known_to_be_readable(tmp_path: Path, name: str) -> None:
    """It stays, and is looked at again: what had left would leave each time, into a topic that is kept for ever."""
    bad = with_ends(folder(tmp_path, name), 1, 2)
    paths = [segment_path(bad, 1), segment_path(bad, 2), unreadable(segment_path(bad, 3))]
    metrics, producer = Metrics(), KeepingProducer()
    running = asyncio.create_task(adoption(tmp_path, producer, metrics).run(paths if name == "own" else []))
    try:
        await until(lambda: metrics.unreadable_spools >= 2)
    finally:
        running.cancel()
    assert producer.sent == [] and metrics.adopted_events == 0
    assert all(path.exists() for path in paths)


async def test_one_that_cannot_be_read_lets_the_others_go(tmp_path: Path) -> None:
    unreadable(segment_path(folder(tmp_path, "a-later-release"), 1))
    dead = with_ends(folder(tmp_path, "dead"), 1)
    producer = KeepingProducer()
    await adoption(tmp_path, producer, Metrics()).adopt_all()
    assert producer.sent == [b"1"] and not dead.exists()


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_folder_that_fails_keeps_no_other_waiting_and_is_seen(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = folder(tmp_path, "a-bad-one")
    BROKEN[kind](bad)
    behind = with_ends(folder(tmp_path, "dead"), 1)
    metrics, producer = Metrics(), KeepingProducer()
    running = asyncio.create_task(adoption(tmp_path, producer, metrics).run([]))
    try:
        await until(lambda: not behind.exists() and metrics.adoption_waits_since is not None)
        assert producer.sent == [b"1"]
        assert {vars(record)["folder"] for record in caplog.records if record.levelname == "ERROR"} == {bad.name}
        bad.rename(tmp_path.parent / f"{tmp_path.name}-taken-away")
        await until(lambda: metrics.adoption_waits_since is None)
    finally:
        running.cancel()


async def test_own_leftovers_that_fail_keep_no_other_waiting(tmp_path: Path) -> None:
    own = folder(tmp_path, "own")
    segment_is_a_folder(own)
    behind = with_ends(folder(tmp_path, "dead"), 2)
    metrics, producer = Metrics(), KeepingProducer()
    running = asyncio.create_task(adoption(tmp_path, producer, metrics).run([segment_path(own, 1)]))
    try:
        await until(lambda: not behind.exists() and metrics.adoption_waits_since is not None)
    finally:
        running.cancel()
    assert producer.sent == [b"2"]


async def test_with_kafka_away_the_look_ends(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with_ends(folder(tmp_path, name), 1)
    producer = KeepingProducer(away=True)
    with pytest.raises(Unavailable):
        await adoption(tmp_path, producer, Metrics()).adopt_all()
    assert producer.calls == 1
