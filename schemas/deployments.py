"""`hydra.deployments`: where to. Key: service id, compacted; readers keep the highest version per key."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant
from schemas.usage import BillingMode

ServiceStatus = Literal["deploying", "running", "degraded", "stopping", "stopped", "deleting", "deleted", "failed"]


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One ready instance that takes new requests. `address` is `host:port` on the internal network."""

    instance: str
    epoch: Count
    address: str


class DeploymentState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.deployments.v1`: a service as the gateway must know it. Only ready instances are listed.

    `instances_wanted` above zero with no endpoint means "still deploying" or "all instances gone", which
    `ever_ready` tells apart. `billing` is how its requests are paid: `token` for a shared model, `time` for an
    own service.
    """

    service_id: str
    version: Count
    account: str
    access_path: str
    model: str
    region: str
    billing: BillingMode
    status: ServiceStatus
    created: Instant
    instances_wanted: Count
    endpoints: tuple[Endpoint, ...] = ()
    ever_ready: bool = False
