"""A clock that a test moves, wall and monotonic time each on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class MovedClock:
    """`pass_` moves both, `jump` the wall clock alone."""

    def __init__(self) -> None:
        self._wall = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def pass_(self, seconds: float) -> None:
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        self._wall += timedelta(seconds=seconds)
