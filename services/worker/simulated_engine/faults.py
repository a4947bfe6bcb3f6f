"""Failures on order, so that what stands in front of an engine can be tested; off unless started with --faults.

`POST /simulate {"fault": KIND, "count": N, ...}` makes the next N inference requests fail (for `unhealthy`: health
checks):

- `status`: answer with `status` (500 if not given) instead of running
- `break`: close the connection after `after_chunks` chunks of a stream, or in the middle of a whole answer
- `error_chunk`: after `after_chunks` chunks of a stream send SGLang's error chunk and end
- `stall`: say nothing for `seconds`, after `after_chunks` chunks, then go on
- `exit`: end the process at once, as a crash does
- `unhealthy`: health checks answer 503

`POST /simulate {"tokens_per_second": RATE}` changes the pace; `{"fault": null}` takes all failures back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from services.worker.simulated_engine.coercions import integer, mapping, number, one_of
from services.worker.simulated_engine.refusals import Refused

KINDS = ("status", "break", "error_chunk", "stall", "exit", "unhealthy")
MAX_PENDING = 100_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure of one request."""

    kind: str
    status: int
    after_chunks: int
    seconds: float


class Faults:
    """The failures that are still to happen, first ordered first."""

    def __init__(self) -> None:
        self._pending: deque[Fault] = deque()
        self._unhealthy = 0

    def take(self) -> Fault | None:
        """The failure of the request that begins now."""
        return self._pending.popleft() if self._pending else None

    def unhealthy(self) -> bool:
        """Whether the health check that is asked now fails."""
        if self._unhealthy:
            self._unhealthy -= 1
            return True
        return False

    def order(self, body: Any) -> None:
        """Takes an order of failures; raises `Refused` where it makes no sense."""
        wanted = mapping(body, ())
        if "fault" not in wanted:
            return
        if wanted["fault"] is None:
            self._pending.clear()
            self._unhealthy = 0
            return
        kind = one_of(*KINDS)(wanted["fault"], ("fault",))
        count = integer(wanted.get("count", 1), ("count",))
        if not 0 < count <= MAX_PENDING - len(self._pending):
            raise Refused(f"count must be in [1, {MAX_PENDING}] together with what is pending")
        if kind == "unhealthy":
            self._unhealthy += count
            return
        fault = Fault(
            kind,
            integer(wanted.get("status", 500), ("status",)),
            integer(wanted.get("after_chunks", 0), ("after_chunks",)),
            number(wanted.get("seconds", 0), ("seconds",)),
        )
        self._pending.extend([fault] * count)
