"""The errors whose class says what to do. A failed assertion is the third kind: we are wrong, stop."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.parked import ParkedReason
from schemas.stops import Gap, Reread


class HydraError(Exception):
    """Root of the errors below; its text is one sentence fit for an operator's log line."""


class Rejected(HydraError):
    """The message is bad and will stay bad: park it with its reason and go on."""

    def __init__(self, reason: ParkedReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Unavailable(HydraError):
    """A dependency is down: acknowledge nothing, back off, try again.

    Where its text may show on a customer's port it names no address: that is for the log, said where it is raised.
    """


class StopOnPurpose(HydraError):
    """Going on would lose or double money: the process exits with 78 and is not restarted until told so.

    `gaps` are lost messages that an operator must name first; `reread` are partitions to be read again on their word.
    """

    def __init__(self, reason: str, *, gaps: Iterable[Gap] = (), reread: Iterable[Reread] = ()) -> None:
        super().__init__(reason)
        self.gaps = tuple(sorted(gaps))
        self.reread = tuple(sorted(reread))


class Misconfigured(HydraError):
    """A setting or a file of the operator's is wrong: exit with 1 and one line that names it."""


EXIT_MISCONFIGURED = 1
EXIT_STOP_ON_PURPOSE = 78
