"""`hydra.instances`: what becomes of each instance, and the time that is billable. Key: instance."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant
from schemas.usage import BillingMode

InstanceState = Literal[
    "placed",  # a node has been chosen; its agent has not reported yet
    "starting",  # pulling, loading: not billed
    "ready",  # serving: billed per second
    "not_ready",  # was ready, does not answer its agent now: not billed
    "draining",  # stop accepted: no new request, no billing
    "ended",  # its engine is gone on purpose
    "written_off",  # its node is lost; replaced, never billed again
]


class BillableInterval(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A proven half-open interval `[billable_from, billable_until)`, both at whole seconds UTC.

    `period` numbers the ready period of the epoch that it was proven by. `start_moved` marks a start that
    had to be moved to the end of the instance's previous interval because the agent's clock stood before it.
    """

    billable_from: Instant
    billable_until: Instant
    period: Count
    start_moved: bool = False


class InstanceChanged(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.instances.v1`. The event's id is `<instance>-<epoch>-<sequence>`.

    Written by lifecycle alone, about once a minute while an instance is ready and at each transition.
    The event's time is `interval.billable_until` where there is an interval, else `at`.
    """

    instance: str
    epoch: Count
    sequence: Count
    state: InstanceState
    at: Instant
    account: str
    service_id: str
    access_path: str
    model: str
    region: str
    spec: str
    billing: BillingMode
    node: str | None = None
    reason: str | None = None
    interval: BillableInterval | None = None
