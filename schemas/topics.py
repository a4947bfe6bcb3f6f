"""The one table of topics and of event types. Whatever creates, reads or documents a topic uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from schemas import (
    accounts,
    charges,
    deployments,
    heartbeats,
    instances,
    parked,
    placements,
    prices,
    spend,
    stops,
    usage,
)

FOREVER_MS = -1
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Topic:
    """`retention_ms` of -1 keeps for ever. `max_message_bytes` bounds one message on the broker and in readers."""

    name: str
    key: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_ms: int
    events: tuple[str, ...]
    max_message_bytes: int = 1_048_576


USAGE = Topic("hydra.usage", "account", 4, "delete", FOREVER_MS, ("hydra.usage.v1",))
INSTANCES = Topic("hydra.instances", "instance", 4, "delete", FOREVER_MS, ("hydra.instances.v1",))
CHARGES = Topic("hydra.charges", "account", 4, "delete", FOREVER_MS, ("hydra.charges.v1",))
PRICES = Topic("hydra.prices", "price id", 1, "delete", FOREVER_MS, ("hydra.prices.v1",))
SPEND = Topic("hydra.spend", "account/hour, partitioned by account", 4, "compact", FOREVER_MS, ("hydra.spend.v1",))
BALANCES = Topic("hydra.balances", "account", 1, "compact", FOREVER_MS, ("hydra.balances.v1",))
ACCOUNTS = Topic("hydra.accounts", "account", 1, "compact", FOREVER_MS, ("hydra.accounts.v1",))
API_KEYS = Topic("hydra.api-keys", "key id", 1, "compact", FOREVER_MS, ("hydra.api-keys.v1",))
DEPLOYMENTS = Topic("hydra.deployments", "service id", 1, "compact", FOREVER_MS, ("hydra.deployments.v1",))
PLACEMENTS = Topic("hydra.placements", "instance", 1, "compact", FOREVER_MS, ("hydra.placements.v1",))
HEARTBEATS = Topic(
    "hydra.heartbeats", "instance or node", 4, "delete", 3 * DAY_MS, ("hydra.heartbeats.v1", "hydra.nodes.v1")
)
PARKED = Topic(
    "hydra.parked",
    "processor/topic/partition/offset",
    1,
    "delete",
    FOREVER_MS,
    ("hydra.parked.v1", "hydra.parked-replayed.v1"),
    # A parked message carries a whole other one in base64.
    max_message_bytes=2_097_152,
)
STOPS = Topic("hydra.stops", "process", 1, "delete", FOREVER_MS, ("hydra.stops.v1",))

TOPICS: tuple[Topic, ...] = (
    USAGE,
    INSTANCES,
    CHARGES,
    PRICES,
    SPEND,
    BALANCES,
    ACCOUNTS,
    API_KEYS,
    DEPLOYMENTS,
    PLACEMENTS,
    HEARTBEATS,
    PARKED,
    STOPS,
)

EVENT_TYPES: dict[str, type[msgspec.Struct]] = {
    "hydra.usage.v1": usage.TokensUsed,
    "hydra.instances.v1": instances.InstanceChanged,
    "hydra.charges.v1": charges.ChargesRaised,
    "hydra.prices.v1": prices.PriceRecorded,
    "hydra.spend.v1": spend.SpendStated,
    "hydra.balances.v1": spend.BalanceStated,
    "hydra.accounts.v1": accounts.AccountState,
    "hydra.api-keys.v1": accounts.ApiKeyState,
    "hydra.deployments.v1": deployments.DeploymentState,
    "hydra.placements.v1": placements.PlacementState,
    "hydra.heartbeats.v1": heartbeats.InstanceHeartbeat,
    "hydra.nodes.v1": heartbeats.NodeHeartbeat,
    "hydra.parked.v1": parked.MessageParked,
    "hydra.parked-replayed.v1": parked.ParkedReplayed,
    "hydra.stops.v1": stops.StopNoted,
}

TYPE_NAMES: dict[type[msgspec.Struct], str] = {struct: name for name, struct in EVENT_TYPES.items()}
