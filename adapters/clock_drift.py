"""How far this process's wall clock stands from Kafka's: measured at each acknowledgement, carried on in between.

A broker stamps what it appends (the topics are made with `LogAppendTime`), and it appends between the sending and the
acknowledgement. That bounds the difference of the two clocks from both sides, however slow the answer was. Between
two acknowledgements, and where Kafka was never reached, a step of the wall clock shows against the monotonic one.
"""

from __future__ import annotations

import logging
from typing import Protocol

from adapters.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

DOUBT_S = 1.0
"""A wall clock that stands further off makes the times it gives doubtful, and is alarmed."""


class Acknowledgement(Protocol):
    """What Kafka says of a message that it has: aiokafka's RecordMetadata. `timestamp` is in milliseconds."""

    @property
    def timestamp(self) -> int | None: ...

    @property
    def timestamp_type(self) -> int | None: ...


BY_BROKER = 1
"""The `timestamp_type` of an instant that the broker gave."""


class ClockDrift:
    """`right_lead` is what wall time less monotonic time should be now, in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.right_lead = self._lead()
        self._said = False

    def _lead(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def seconds(self) -> float:
        """By how much the wall clock is ahead (below 0: behind). Logs where it begins or ceases to be too much."""
        drift = self._lead() - self.right_lead
        if (abs(drift) > DOUBT_S) is not self._said:
            self._said = not self._said
            if self._said:
                logger.warning("the wall clock is wrong; set it right", extra={"drift_s": round(drift, 3)})
            else:
                logger.info("the wall clock is right again", extra={"drift_s": round(drift, 3)})
        return drift

    def warning(self) -> dict[str, str]:
        """What /health/ready says besides: a `warning` while the wall clock is off by more than DOUBT_S."""
        drift = self.seconds()
        if abs(drift) <= DOUBT_S:
            return {}
        side = "ahead of" if drift > 0 else "behind"
        return {"warning": f"the wall clock is {abs(drift):.1f} s {side} what it should be: set it right"}

    def begin(self) -> float:
        """To be asked before something is sent, and handed to `acknowledged`."""
        return self._clock.monotonic()

    def acknowledged(self, began: float, acknowledgement: Acknowledgement) -> None:
        """Kafka has taken, since `began`, what this acknowledges: hold the drift to what that proves."""
        if acknowledgement.timestamp_type != BY_BROKER or acknowledgement.timestamp is None:
            return
        appended = acknowledgement.timestamp / 1000
        # In terms of the monotonic clock it was appended between `began` and now.
        lead_least, lead_most = appended - self._clock.monotonic(), appended - began
        self.right_lead = min(max(self.right_lead, lead_least), lead_most)
        self.seconds()


DRIFT = ClockDrift(SystemClock())
"""This process's: there is one wall clock in it."""
