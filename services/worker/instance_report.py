"""What is said of one instance: its state, its ready periods, its heartbeats. Kept in its record as it changes."""

from __future__ import annotations

import logging

import msgspec

from schemas.heartbeats import EngineCounters, EngineState, InstanceHeartbeat
from services.worker.ready_periods import REPORTED_MAX, ReadyPeriods
from services.worker.records import EngineProcessRecord, FinishedEpoch, InstanceRecord
from services.worker.site import Site

logger = logging.getLogger(__name__)

FINISHED_MAX = 1024
"""Engine starts whose last heartbeat waits for Kafka; the oldest is dropped past it, and said so."""
DETAIL_MAX = 200
"""Characters. Lifecycle refuses a heartbeat, its ready seconds too, whose detail has over 1,000 of them or a NUL."""


class InstanceReport:
    """The heartbeats of an instance in the order in which they must be heard.

    Lifecycle hears nothing of an epoch once it has heard of a later one. So the last heartbeat of an epoch, with all
    its periods, is repeated until Kafka has acknowledged it, before the first one of the next epoch leaves; an epoch
    that waits so is kept in the record (`finished`), and an agent that starts again begins with what the record says.
    """

    def __init__(self, site: Site, record: InstanceRecord) -> None:
        self._site = site
        self._record = record
        self._periods = self._new_periods(record)
        self._address: str | None = None
        self._counters: EngineCounters | None = None
        self._leaving = False
        self._last_word_acknowledged = record.life == "ended_reported"
        self._taken_up = False
        if record.epoch > 0 and record.life == "running":
            self._set("failed", "the node agent was started again")

    @property
    def epoch(self) -> int:
        return self._record.epoch

    @property
    def state(self) -> EngineState:
        return self._record.state

    @property
    def is_over(self) -> bool:
        """Whether Kafka has acknowledged that the instance ended, and all of its ready seconds."""
        return self.state == "ended" and self._last_word_acknowledged and not self._record.finished

    @property
    def unacknowledged_periods(self) -> int:
        return len(self._record.periods) + sum(len(finished.periods) for finished in self._record.finished)

    # What happens to the instance.

    def next_epoch(self, acknowledged_epoch: int) -> int:
        """Number the next engine start, on disk before it happens. Raises OSError."""
        record = self._record
        epoch = max(record.epoch, acknowledged_epoch) + 1
        self._site.records.save_epoch(record.instance, epoch)
        if record.epoch > 0 and not self._last_word_acknowledged:
            self._keep_finished()
        record.epoch, record.beat, record.periods = epoch, 0, ()
        self._periods = self._new_periods(record)
        self._address = self._counters = None
        self._set("loading", None)
        return epoch

    def process(self, process: EngineProcessRecord | None) -> None:
        """An engine process that may run from now on, or none."""
        self._record.process = process
        self._save()

    def loading(self, address: str) -> None:
        self._address = address
        self._set("loading", None)

    def still_loading(self, reason: str) -> None:
        self._set("loading", reason)

    def seen_ready(self) -> None:
        """A check has succeeded just now."""
        if self._leaving:
            return
        self._periods.seen_ready()
        self._set("ready", None)

    def seen_not_ready(self, reason: str) -> None:
        self._periods.close()
        self._set("not_ready", reason)

    def close_period(self) -> None:
        self._periods.close()
        self._save()

    def failed(self, reason: str) -> None:
        """The engine is gone, unasked; another one will be started."""
        self._periods.close()
        self._set("failed", reason)

    def leaving(self, state: EngineState) -> None:
        """From now on no check counts."""
        self._leaving = True
        self._periods.close()
        if self._record.epoch > 0 and self.state != "ended":
            self._set(state, None)

    def stopped(self) -> None:
        """The agent ends and took the engine with it; the next agent starts another one."""
        self._periods.close()
        if self._record.epoch > 0:
            self._set("not_ready", "the node agent was stopped")

    def ended(self) -> None:
        """Ended as its placement wanted; an instance that never started ends in epoch 1, so that it can be said."""
        self._periods.close()
        if self._record.epoch == 0:
            self._record.epoch = 1
        self._record.life = "ended"
        self._set("ended", None)

    def retire(self) -> None:
        """All is said and heard."""
        self._record.life = "ended_reported"
        self._save()

    def count(self, counters: EngineCounters) -> None:
        self._counters = counters

    def acknowledge(self, epoch: int, period: int) -> None:
        """Lifecycle has turned all closed periods up to this one into billable time."""
        record = self._record
        finished = []
        for earlier in record.finished:
            left = tuple(one for one in earlier.periods if (earlier.epoch, one.number) > (epoch, period))
            if left or (not earlier.periods and earlier.epoch > epoch):
                finished.append(msgspec.structs.replace(earlier, periods=left))
        record.finished = tuple(finished)
        if epoch >= record.epoch:
            self._periods.acknowledge(period)
        self._save()

    # What is said of it.

    @property
    def has_finished(self) -> bool:
        """Whether the next heartbeat is one of an epoch that is over."""
        return bool(self._record.finished)

    def heartbeat(self) -> InstanceHeartbeat | None:
        """The next heartbeat to send: of an epoch that is over and not yet heard of, else of the current one."""
        record = self._record
        if record.finished:
            return self._heartbeat_of_finished(record.finished[0])
        if record.epoch == 0:
            return None
        record.beat += 1
        self._save()
        return InstanceHeartbeat(
            node=self._site.node,
            instance=record.instance,
            epoch=record.epoch,
            beat=record.beat,
            state=record.state,
            sent=self._site.clock.now(),
            address=self._address if record.process is not None else None,
            counters=self._counters,
            periods=record.periods[:REPORTED_MAX],
            detail=record.detail,
        )

    def acknowledged(self, heartbeat: InstanceHeartbeat) -> None:
        """Kafka has this heartbeat."""
        record = self._record
        if record.finished and record.finished[0].epoch == heartbeat.epoch:
            first, *rest = record.finished
            left = tuple(one for one in first.periods if one not in heartbeat.periods)
            kept = [msgspec.structs.replace(first, periods=left)] if left else []
            record.finished = (*kept, *rest)
            self._save()
        elif heartbeat.epoch == record.epoch and heartbeat.state == record.state in ("failed", "ended"):
            self._last_word_acknowledged = heartbeat.periods == record.periods

    def _heartbeat_of_finished(self, finished: FinishedEpoch) -> InstanceHeartbeat:
        beat = finished.beat + 1
        self._record.finished = (msgspec.structs.replace(finished, beat=beat), *self._record.finished[1:])
        self._save()
        return InstanceHeartbeat(
            node=self._site.node,
            instance=self._record.instance,
            epoch=finished.epoch,
            beat=beat,
            state="failed",
            sent=self._site.clock.now(),
            periods=finished.periods[:REPORTED_MAX],
            detail=_detail(finished.detail),  # its record may be from an agent that bounded it otherwise
        )

    def _keep_finished(self) -> None:
        record = self._record
        latest = FinishedEpoch(
            epoch=record.epoch, beat=record.beat, detail=record.detail or "the engine ended", periods=record.periods
        )
        # Of epochs that were never ready only the latest has something to say.
        finished = [earlier for earlier in record.finished if earlier.periods]
        if len(finished) >= FINISHED_MAX:
            lost = finished.pop(0)
            logger.error(
                "ready periods dropped: Kafka was away for too long",
                extra={"instance": record.instance, "epoch": lost.epoch, "periods": len(lost.periods)},
            )
        record.finished = (*finished, latest)

    def _new_periods(self, record: InstanceRecord) -> ReadyPeriods:
        return ReadyPeriods(self._site.clock, self._site.settings.proof_gap_seconds, record.periods)

    def _set(self, state: EngineState, detail: str | None) -> None:
        changed = self._record.state != state or not self._taken_up
        self._taken_up = True
        self._record.state, self._record.detail = state, _detail(detail)
        if changed:
            self._last_word_acknowledged = False
        self._save()
        if changed:
            self._site.changed(self._record.instance)

    def _save(self) -> None:
        self._record.periods = self._periods.unacknowledged()
        try:
            self._site.records.save(self._record)
        except OSError as error:
            # What was sent stays true without the file; only a death of the agent before the next write loses seconds.
            self._site.metrics.records_unwritten.inc()
            logger.error(
                "instance record cannot be written", extra={"instance": self._record.instance, "cause": error.strerror}
            )


def _detail(reason: str | None) -> str | None:
    """The reason as a heartbeat may carry it."""
    return reason[:DETAIL_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}") if reason else None
