"""What a dead gateway left is on disk before it is published: a second death, of the machine, must not take it back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from adapters.kafka.producer import EventProducer
from schemas.topics import Topic
from services.gateway.adoption import Adoption
from services.gateway.metrics import Metrics
from services.gateway.spool_files import end_record, segment_path, segments

ACCOUNT = "u-0123456789ab"


class NotedProducer(EventProducer):
    """Says when it was given what, and sends nothing."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__("127.0.0.1:1")
        self._steps = steps

    async def publish_batch(self, topic: Topic, messages: list[tuple[str, bytes]]) -> None:
        self._steps += [f"published {event.decode()}" for _, event in messages]


def left_by_a_dead_gateway(root: Path) -> Path:
    dead = root / "dead"
    dead.mkdir()
    for number in (1, 2):
        segment_path(dead, number).write_bytes(end_record(f"cmp-{number:032x}", ACCOUNT, b"%d" % number))
    return dead


def adoption(root: Path, steps: list[str]) -> Adoption:
    return Adoption(root, root / "own", NotedProducer(steps), Metrics(), interval_s=60, batch_max=1)


async def test_every_segment_is_synced_before_anything_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gateway may have died between a write and its sync; without the end another adopter would contradict it."""
    dead = left_by_a_dead_gateway(tmp_path)
    steps: list[str] = []
    sync = os.fdatasync

    def noted(handle: int) -> None:
        sync(handle)
        steps.append(f"synced {int(Path(f'/proc/self/fd/{handle}').readlink().stem)}")

    monkeypatch.setattr(os, "fdatasync", noted)
    await adoption(tmp_path, steps).adopt_all()
    assert steps == ["synced 1", "synced 2", "published 1", "published 2"]
    assert not dead.exists()


async def test_nothing_is_published_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = left_by_a_dead_gateway(tmp_path)

    def failing(handle: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    steps: list[str] = []
    with pytest.raises(OSError, match="input/output"):
        await adoption(tmp_path, steps).adopt_all()
    assert steps == [] and len(segments(dead)) == 2
