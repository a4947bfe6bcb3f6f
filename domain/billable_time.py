"""Instance time: from the ready periods that a node agent reports to proven, billable intervals in whole seconds.

The wall clock places the start of a ready period, floored to the second and never before the end of the instance's
last interval; inside a period only `ready_seconds` counts. Intervals of one instance follow each other, never
overlap, and are never extended or taken back. Whoever keeps a `Meter` writes what `prove` returns, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from schemas.heartbeats import InstanceHeartbeat, ReadyPeriod
from schemas.instances import BillableInterval

SAMPLES_MAX = 64
"""Reports of a period kept until they are billed; so many make an interval due early."""

PeriodKey = tuple[int, int]
"""(epoch, number): the order in which an instance's ready periods happened."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One report of a period: when the agent stamped it and the seconds that it proves."""

    sent: datetime
    ready_seconds: int


@dataclass(frozen=True, kw_only=True)
class Period:
    """A ready period that is not settled yet. `start` is placed when its first interval is written."""

    epoch: int
    number: int
    began: datetime
    start: datetime | None = None
    billed_seconds: int = 0
    closed: bool = False
    samples: tuple[Sample, ...] = ()

    @property
    def key(self) -> PeriodKey:
        return self.epoch, self.number

    @property
    def proven_seconds(self) -> int:
        """The most that was reported."""
        return max((sample.ready_seconds for sample in self.samples), default=self.billed_seconds)

    @property
    def unbilled_seconds(self) -> int:
        return max(0, self.proven_seconds - self.billed_seconds)


@dataclass(frozen=True, kw_only=True)
class Meter:
    """What is known of an instance's time. `settled` is the last period that can never earn another interval.

    `epoch` is the highest one heard of; `stopped_at` the instant T from which on nothing that an agent stamps counts.
    """

    epoch: int = 0
    billed_until: datetime | None = None
    last_billed: PeriodKey = (0, 0)
    settled: PeriodKey = (0, 0)
    stopped_at: datetime | None = None
    periods: tuple[Period, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProvenInterval:
    """An interval to be written, and the epoch that its period belongs to."""

    epoch: int
    interval: BillableInterval


def heard(meter: Meter, heartbeat: InstanceHeartbeat) -> Meter:
    """Take in a heartbeat. Repeats and reordered ones change nothing that a later one of the epoch has proven.

    A heartbeat of an epoch before the highest one is dropped (its engine was replaced), and so is one that was
    stamped at or after the stop.
    """
    if heartbeat.epoch < meter.epoch:
        return meter
    if meter.stopped_at is not None and heartbeat.sent >= meter.stopped_at:
        return meter
    known = {
        period.key: replace(period, closed=period.closed or period.epoch < heartbeat.epoch) for period in meter.periods
    }
    for report in heartbeat.periods:
        key = (heartbeat.epoch, report.number)
        if key <= meter.settled or key < meter.last_billed:
            continue
        known[key] = _reported(known.get(key), heartbeat, report)
    return replace(meter, epoch=heartbeat.epoch, periods=tuple(known[key] for key in sorted(known)))


def _reported(period: Period | None, heartbeat: InstanceHeartbeat, report: ReadyPeriod) -> Period:
    if period is None:
        period = Period(epoch=heartbeat.epoch, number=report.number, began=report.began)
    samples = period.samples
    sample = Sample(sent=heartbeat.sent, ready_seconds=report.ready_seconds)
    # A report that proves no more than an earlier stamped one adds nothing, whatever instant of stop comes.
    if report.ready_seconds > period.billed_seconds and not any(
        other.ready_seconds >= sample.ready_seconds and other.sent <= sample.sent for other in samples
    ):
        samples = (*samples, sample)
    return replace(period, samples=samples, closed=period.closed or report.closed)


def unbilled_seconds(meter: Meter) -> int:
    """Seconds proven and not yet in an interval."""
    return sum(period.unbilled_seconds for period in meter.periods)


def is_due(meter: Meter, every_seconds: int) -> bool:
    """Whether an interval should be written now: enough time has gathered, or a period or the instance has ended."""
    if any(len(period.samples) >= SAMPLES_MAX for period in meter.periods):
        return True
    pending = unbilled_seconds(meter)
    if pending == 0:
        # A closed period with nothing left to bill is settled at once, so that its agent can forget it.
        return any(period.closed for period in meter.periods)
    if meter.stopped_at is not None or pending >= every_seconds:
        return True
    return any(period.closed for period in meter.periods)


def stop(meter: Meter, at: datetime) -> Meter:
    """A stop, delete or scale-down accepted at `at`: what is stamped from then on never counts. The first stands."""
    if meter.stopped_at is not None:
        return meter
    periods = tuple(
        replace(period, samples=tuple(sample for sample in period.samples if sample.sent < at))
        for period in meter.periods
    )
    return replace(meter, stopped_at=at, periods=periods)


def prove(meter: Meter) -> tuple[Meter, tuple[ProvenInterval, ...]]:
    """Turn everything proven so far into intervals, in order, and settle the periods that have ended."""
    intervals: list[ProvenInterval] = []
    billed_until, last_billed = meter.billed_until, meter.last_billed
    periods: list[Period] = []
    for period in meter.periods:
        seconds = period.proven_seconds
        if seconds > period.billed_seconds:
            start, moved = _placed(period, billed_until)
            interval = BillableInterval(
                billable_from=start + timedelta(seconds=period.billed_seconds),
                billable_until=start + timedelta(seconds=seconds),
                period=period.number,
                start_moved=moved,
            )
            assert billed_until is None or interval.billable_from >= billed_until
            intervals.append(ProvenInterval(epoch=period.epoch, interval=interval))
            billed_until, last_billed = interval.billable_until, period.key
            period = replace(period, start=start, billed_seconds=seconds)
        periods.append(replace(period, samples=()))
    # Whatever lies before the end of a settled period, or before what was billed last, has had its time.
    settled = max([meter.settled, *(p.key for p in periods if p.closed or p.key < last_billed)])
    still_open = tuple(period for period in periods if period.key > settled)
    after = replace(meter, billed_until=billed_until, last_billed=last_billed, settled=settled, periods=still_open)
    return after, tuple(intervals)


def _placed(period: Period, billed_until: datetime | None) -> tuple[datetime, bool]:
    """Where the period starts on the wall clock, and whether it had to be moved there."""
    if period.start is not None:
        return period.start, False
    start = period.began.astimezone(UTC).replace(microsecond=0)
    if billed_until is not None and start < billed_until:
        return billed_until, True
    return start, False
