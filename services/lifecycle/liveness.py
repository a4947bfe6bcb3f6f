"""Who was heard when, by this process's monotonic clock, and whether silence may be believed.

Silence counts only while Kafka answers and heartbeats were read to their end: lifecycle's own absence, a pause of
its process and Kafka's absence never do.
"""

from __future__ import annotations

from adapters.clock import Clock

ANSWER_GAP_MAX_S = 5.0
"""After so long without an answer of Kafka's every silence is counted anew."""


FORGET_AFTER_S = 3_600.0


class Liveness:
    """All instants are seconds of the clock's monotonic time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._answered_since: float | None = None
        self._read_through = 0.0
        self._last_heard = clock.monotonic()

    def heard(self, name: str) -> None:
        """A heartbeat of this instance or node has been read now."""
        self._last_heard = self._heard[name] = self._clock.monotonic()

    def expect(self, name: str) -> None:
        """Count the silence of something not heard of yet from now on."""
        self._heard.setdefault(name, self._clock.monotonic())

    def forget(self, names: set[str]) -> None:
        """Drop what is none of `names` and was not heard lately, so that this stays as small as what lives.

        What was heard lately may be newer than the rows that `names` were read from.
        """
        since = self._clock.monotonic() - FORGET_AFTER_S
        self._heard = {name: at for name, at in self._heard.items() if name in names or at >= since}

    def read_to_the_end(self, asked_at: float) -> None:
        """Everything that Kafka had at `asked_at` has been read and applied."""
        if self._answered_since is None or asked_at - self._read_through > ANSWER_GAP_MAX_S:
            self._answered_since = asked_at
        self._read_through = asked_at

    def kafka_is_away(self) -> None:
        """Kafka does not answer, or what it has cannot be applied."""
        self._answered_since = None

    @property
    def certain(self) -> bool:
        """Whether silence may be believed now."""
        recent = self._clock.monotonic() - self._read_through <= ANSWER_GAP_MAX_S
        return self._answered_since is not None and recent

    def silent_for_s(self, name: str) -> float:
        """Seconds for which surely nothing was sent that we could have read; 0 while that is not certain, and of what
        was neither heard nor expected: it may have been placed a moment ago."""
        at = self._heard.get(name)
        if at is None or self._answered_since is None or not self.certain:
            return 0.0
        return max(0.0, self._read_through - max(at, self._answered_since))

    def was_heard_within(self, name: str, seconds: float) -> bool:
        """Whether something was read of it in the last `seconds`."""
        at = self._heard.get(name)
        return at is not None and self._clock.monotonic() - at <= seconds

    def since_any_heartbeat_s(self) -> float:
        """Seconds since anything was read, or since the start where nothing was."""
        return self._clock.monotonic() - self._last_heard
