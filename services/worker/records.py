"""What the agent keeps in its folder about itself and each instance, so that its own death loses nothing.

Two files an instance: `<instance>.epoch`, synced to disk before an engine starts, and `<instance>.json`, replaced
whole at each change and not synced: kill -9 loses nothing of it, a power cut takes the engines with it anyway.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from schemas.heartbeats import EngineState, ReadyPeriod


class EngineProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Names a process for good: pids are used again, but not with the same start time on the same boot."""

    pid: int
    start_ticks: int
    boot: str


class FinishedEpoch(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An engine start that is over and whose last heartbeat Kafka has not acknowledged yet."""

    epoch: int
    beat: int
    detail: str
    periods: tuple[ReadyPeriod, ...] = ()


class InstanceRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One instance. `process` is set while an engine may run; `finished` are reported before the current epoch."""

    instance: str
    epoch: int = 0
    beat: int = 0
    state: EngineState = "pulling"
    detail: str | None = None
    periods: tuple[ReadyPeriod, ...] = ()
    finished: tuple[FinishedEpoch, ...] = ()
    process: EngineProcessRecord | None = None
    life: Literal["running", "ended", "ended_reported"] = "running"


def write_synced(path: Path, content: bytes) -> None:
    """Replace a file so that a power cut leaves the old or the new content. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _begin_numbered(record: InstanceRecord, epoch: int) -> None:
    """Make up for the record that InstanceReport.next_epoch did not get to write once it had numbered `epoch`.

    Periods must stay with the epoch that proved them: lifecycle would bill those of another one a second time.
    """
    if record.epoch > 0:
        over = FinishedEpoch(
            epoch=record.epoch,
            beat=record.beat,
            detail=record.detail or "the engine ended",
            # An earlier write may have failed too; by the time of the number the last period was closed.
            periods=tuple(msgspec.structs.replace(period, closed=True) for period in record.periods),
        )
        # As in next_epoch: of epochs that were never ready only the latest has something to say.
        record.finished = (*(earlier for earlier in record.finished if earlier.periods), over)
        record.beat, record.periods, record.state, record.detail = 0, (), "loading", None
    record.epoch = epoch


class InstanceRecords:
    """The records in `folder`, one pair of files an instance. All methods may raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_all(self) -> tuple[dict[str, InstanceRecord], list[str]]:
        """Every record, and the names of the files that could not be read; those instances keep their epoch alone."""
        records: dict[str, InstanceRecord] = {}
        damaged: list[str] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records[path.stem] = msgspec.json.decode(path.read_bytes(), type=InstanceRecord)
            except msgspec.DecodeError:
                damaged.append(path.name)
        for path in sorted(self._folder.glob("*.epoch")):
            record = records.setdefault(path.stem, InstanceRecord(instance=path.stem))
            try:
                number = int(path.read_text())
            except ValueError:
                damaged.append(path.name)
                continue
            if number > record.epoch:
                _begin_numbered(record, number)
        return records, damaged

    def save(self, record: InstanceRecord) -> None:
        """Replace the record; survives the agent's death, not a power cut."""
        path = self._folder / f"{record.instance}.json"
        temporary = path.with_name(path.name + ".new")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.replace(path)

    def save_epoch(self, instance: str, epoch: int) -> None:
        """Number an engine start before it happens; on disk when this returns."""
        write_synced(self._folder / f"{instance}.epoch", str(epoch).encode())

    def delete(self, instance: str) -> None:
        """Forget an instance whose placement is gone; ids are never used again."""
        for suffix in (".json", ".epoch"):
            (self._folder / f"{instance}{suffix}").unlink(missing_ok=True)
