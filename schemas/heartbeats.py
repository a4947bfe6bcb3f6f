"""`hydra.heartbeats`: what node agents see, about every five seconds. Key: instance, or node for a node's own."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

EngineState = Literal["pulling", "loading", "ready", "not_ready", "draining", "ended", "failed"]
EngineKind = Literal["simulated", "sglang-cpu", "sglang"]


class ReadyPeriod(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One ready period of an epoch: `began` by the agent's wall clock, `ready_seconds` by its monotonic clock.

    Periods of an epoch are numbered from 1. `closed` is set once the engine is no longer ready in it.
    """

    number: Count
    began: Instant
    ready_seconds: Count
    closed: bool = False


class EngineCounters(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The engine's own token counters since its start (they restart at 0 with its process)."""

    prompt_tokens: Count = 0
    cached_tokens: Count = 0
    generation_tokens: Count = 0
    requests: Count = 0


class InstanceHeartbeat(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.heartbeats.v1`. The event's id is `<instance>-<epoch>-<beat>`, its time the agent's wall clock.

    `periods` are all ready periods of the epoch not yet acknowledged (bounded), so a lost beat is made good
    by the next. `address` is `host:port` where the engine listens.
    """

    node: str
    instance: str
    epoch: Count
    beat: Count
    state: EngineState
    sent: Instant
    address: str | None = None
    counters: EngineCounters | None = None
    periods: tuple[ReadyPeriod, ...] = ()
    detail: str | None = None


class NodeHeartbeat(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.nodes.v1`, on the same topic. The event's id is `<node>-<start>-<beat>`.

    `gpu` is the GPU type of the machine, `gpus` how many it has and `memory_gb` each one's memory (GiB); `any` where
    engines need no GPU: then `gpus` are slots that hold any spec.
    `instances` names all that this agent runs now. `engine` tells what its engines are.
    """

    node: str
    start: Count
    beat: Count
    sent: Instant
    region: str
    engine: EngineKind
    gpu: str
    gpus: Count
    memory_gb: Count
    instances: tuple[str, ...] = ()
