"""`hydra.placements`: what each node agent must run. Key: instance, compacted; readers keep the highest version."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

PlacementWanted = Literal["running", "draining", "ended"]


class PlacementState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.placements.v1`. The agent of `node` runs what is `running`, drains what is `draining` until
    `drain_until` at the latest, and ends what is `ended`.

    `acknowledged_epoch` and `acknowledged_period` name the last closed ready period that lifecycle has turned into
    billable time; the agent needs to report no earlier one.
    """

    instance: str
    version: Count
    node: str
    service_id: str
    access_path: str
    model: str
    spec: str
    wanted: PlacementWanted
    drain_until: Instant | None = None
    acknowledged_epoch: Count = 0
    acknowledged_period: Count = 0
