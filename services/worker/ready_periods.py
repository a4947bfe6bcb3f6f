"""An epoch's ready periods: what the checks of its engine have proven. Pure but for the clock that is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from adapters.clock import Clock
from schemas.heartbeats import ReadyPeriod

REPORTED_MAX = 64
"""Periods in one heartbeat."""

KEPT_MAX = 1024
"""Unacknowledged periods of one epoch. Past it no period is opened: time that cannot be proven is not billed."""


@dataclass
class _Open:
    number: int
    began: datetime
    began_at: float
    seen_at: float

    def report(self, closed: bool) -> ReadyPeriod:
        seconds = int(self.seen_at - self.began_at)
        return ReadyPeriod(number=self.number, began=self.began, ready_seconds=seconds, closed=closed)


class ReadyPeriods:
    """Periods are numbered from 1; the wall clock only says when one began, the monotonic clock how long it was.

    A period reaches from its first successful check to its last one. Two successes more than `gap_max_s` apart (the
    agent itself stood still) prove nothing between them and belong to two periods.
    """

    def __init__(self, clock: Clock, gap_max_s: float, earlier: tuple[ReadyPeriod, ...] = ()) -> None:
        """`earlier` are periods of this epoch that an earlier run of the agent has left; all are closed by now."""
        self._clock = clock
        self._gap_max_s = gap_max_s
        self._number = max((period.number for period in earlier), default=0)
        self._closed = [msgspec.structs.replace(period, closed=True) for period in earlier]
        self._open: _Open | None = None

    def seen_ready(self) -> None:
        """A check has succeeded just now."""
        now = self._clock.monotonic()
        if self._open is not None and now - self._open.seen_at > self._gap_max_s:
            self.close()
        if self._open is not None:
            self._open.seen_at = now
        elif len(self._closed) < KEPT_MAX:
            self._number += 1
            self._open = _Open(number=self._number, began=self._clock.now(), began_at=now, seen_at=now)

    def close(self) -> None:
        """The engine is no longer ready, or must no longer count as ready. The period ends at its last success."""
        if self._open is not None:
            self._closed.append(self._open.report(closed=True))
            self._open = None

    def acknowledge(self, number: int) -> None:
        """Forget closed periods up to `number`: lifecycle has turned them into billable time."""
        self._closed = [period for period in self._closed if period.number > number]

    def unacknowledged(self) -> tuple[ReadyPeriod, ...]:
        """All periods still to be reported, oldest first, the open one last."""
        return (*self._closed, *([self._open.report(closed=False)] if self._open else []))
