"""The catalogue: models with their hosting modes, regions and specs. adapters/catalogue_text.py loads and checks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

HostingMode = Literal["token", "service"]
"""`token`: a shared model of the operator's, paid by token; `service`: customers deploy their own instances."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """How SGLang is started for a model. Extra arguments are the operator's, never a customer's."""

    model_path: str
    tensor_parallel_size: int = 1
    quantization: str | None = None
    context_length: int | None = None
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """`id` is the lower-case name used in access paths and prices; `name` is the one that people read."""

    id: str
    name: str
    hosting: frozenset[HostingMode]
    engine: EngineSpec
    specs: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What one instance occupies on a node: GPU type, count and each GPU's memory (GiB)."""

    id: str
    gpu: str
    gpus: int
    memory_gb: int


@dataclass(frozen=True, kw_only=True)
class Region:
    """`id` is the first label of the region's endpoint; `specs` can be deployed there."""

    id: str
    name: str
    specs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SharedModel:
    """A model that the platform deploys for its own account at its first start."""

    model: str
    region: str
    spec: str
    replicas: int


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything that can be deployed; keys are ids."""

    models: dict[str, Model]
    regions: dict[str, Region]
    specs: dict[str, Spec]
    shared_at_first_start: tuple[SharedModel, ...] = field(default=())
