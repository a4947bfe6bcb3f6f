"""`readiness.jsonl`: the ready seconds that Kafka has acknowledged, one JSON line a report; bills are held to it."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

import msgspec

from schemas.heartbeats import InstanceHeartbeat, ReadyPeriod

logger = logging.getLogger(__name__)


class ReadinessLine(msgspec.Struct, frozen=True, kw_only=True):
    """A period as heartbeat `beat` of the epoch reported it. The last line of a period is what was proven of it."""

    instance: str
    epoch: int
    beat: int
    sent: datetime
    period: int
    began: datetime
    ready_seconds: int
    closed: bool


class ReadinessLog:
    """Appends to `path`, which is kept once more as `<path>.1`; each of at most `bytes_max`."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._written: dict[str, tuple[int, tuple[ReadyPeriod, ...]]] = {}

    def acknowledged(self, heartbeat: InstanceHeartbeat) -> None:
        """Write the periods that changed since the instance's last heartbeat."""
        epoch, before = self._written.get(heartbeat.instance, (0, ()))
        known = set(before) if epoch == heartbeat.epoch else set()
        lines = [
            ReadinessLine(
                instance=heartbeat.instance,
                epoch=heartbeat.epoch,
                beat=heartbeat.beat,
                sent=heartbeat.sent,
                period=period.number,
                began=period.began,
                ready_seconds=period.ready_seconds,
                closed=period.closed,
            )
            for period in heartbeat.periods
            if period not in known
        ]
        self._written[heartbeat.instance] = (heartbeat.epoch, heartbeat.periods)
        if lines:
            self._append(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

    def forget(self, instance: str) -> None:
        """The instance will report no more."""
        self._written.pop(instance, None)

    def _append(self, lines: bytes) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size + len(lines) > self._bytes_max:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            logger.warning("readiness log cannot be written", extra={"cause": error.strerror})
