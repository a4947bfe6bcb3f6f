"""`hydra.stops`: who stopped on purpose, what is missing, and who accepted that. Kept for ever."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant


class Gap(msgspec.Struct, frozen=True, order=True):
    """Messages that a log has lost, both offsets included. Nothing of them is in any bill."""

    topic: str
    partition: Count
    first_offset: Count
    last_offset: Count


class Reread(msgspec.Struct, frozen=True, order=True):
    """A partition that would have to be read again from its log's beginning; ids make what comes twice one."""

    topic: str
    partition: Count


class StopNoted(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.stops.v1`, key: process. `stopped` by the process, `accepted` by an operator, `went_on` by the process.

    `reason` is the process's sentence or the operator's words; `by` is who accepted, as the command knew it.
    """

    process: str
    what: Literal["stopped", "accepted", "went_on"]
    at: Instant
    reason: str
    gaps: tuple[Gap, ...] = ()
    reread: tuple[Reread, ...] = ()
    by: str | None = None
