"""How often a fast stream is read: at most once a beat, so that chunks which come close together leave in one write."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Resting(Protocol):
    """Whose engine's bytes wait in the socket until the next beat."""

    def rest_over(self) -> None: ...


class StreamPace:
    """One beat for all streams of this process: a timer for each of them would cost more than it saves."""

    __slots__ = ("_loop", "_resting", "beat_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, beat_s: float) -> None:
        self._loop = loop
        self._resting: list[Resting] = []
        self.beat_s = beat_s

    def rest(self, stream: Resting) -> None:
        """Tell it at the next beat, at most `beat_s` from now, to read on."""
        if not self._resting:
            self._loop.call_later(self.beat_s, self._beat)
        self._resting.append(stream)

    def _beat(self) -> None:
        resting, self._resting = self._resting, []
        for stream in resting:
            stream.rest_over()
