"""What an operator must name before a process that stopped on purpose may go on, and what was named already."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from schemas.stops import Gap, Reread, StopNoted

TO_GO_ON = "; to go on: "
"""Between a process's last words and the command that follows them."""
_GAP = re.compile(r"(?P<topic>[\w.-]+)/(?P<partition>\d{1,9}):(?P<first>\d{1,15})-(?P<last>\d{1,15})", re.ASCII)


def gap_text(gap: Gap) -> str:
    """As it is typed: `hydra.usage/3:120-180`."""
    return f"{gap.topic}/{gap.partition}:{gap.first_offset}-{gap.last_offset}"


def gap_of(text: str) -> Gap:
    """The gap that was typed. Raises ValueError, whose text says how one is written."""
    found = _GAP.fullmatch(text)
    if found is None or int(found["first"]) > int(found["last"]):
        raise ValueError(f"{text!r} is no gap: write TOPIC/PARTITION:FIRST-LAST, as hydra.usage/3:120-180")
    return Gap(found["topic"], int(found["partition"]), int(found["first"]), int(found["last"]))


def command_to_go_on(process: str, gaps: Iterable[Gap], reread: Collection[Reread]) -> str:
    """What the operator types."""
    words = ["hydra resume", process, *(f"--gap {gap_text(gap)}" for gap in sorted(gaps))]
    return " ".join([*words, "--from-start"] if reread else words)


def not_accepted(gaps: Iterable[Gap], noted: Iterable[StopNoted]) -> list[Gap]:
    """Those of `gaps` that do not lie within one that was accepted. What was accepted once stays so."""
    accepted = [gap for stop in noted if stop.what == "accepted" for gap in stop.gaps]
    return sorted(gap for gap in gaps if not any(_within(gap, other) for other in accepted))


def _within(gap: Gap, other: Gap) -> bool:
    same_log = (gap.topic, gap.partition) == (other.topic, other.partition)
    return same_log and other.first_offset <= gap.first_offset and gap.last_offset <= other.last_offset


def to_reread(noted: Iterable[StopNoted]) -> set[Reread]:
    """What was accepted to be read again and has not been begun: such a permission holds once."""
    allowed: set[Reread] = set()
    for stop in noted:
        if stop.what == "accepted":
            allowed |= set(stop.reread)
        elif stop.what == "went_on":
            allowed -= set(stop.reread)
    return allowed


def unanswered(noted: Iterable[StopNoted]) -> StopNoted | None:
    """The last stop of one process, unless the process has gone on since."""
    last: StopNoted | None = None
    for stop in noted:
        if stop.what == "stopped":
            last = stop
        elif stop.what == "went_on":
            last = None
    return last
