"""What all instances of one agent share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.clock import Clock
from schemas.placements import PlacementState
from services.worker.engine_ports import EnginePorts
from services.worker.engine_probe import EngineProbe
from services.worker.engine_process import EngineCommand
from services.worker.metrics import WorkerMetrics
from services.worker.records import InstanceRecords
from services.worker.settings import WorkerSettings


class EngineCommands(Protocol):
    """Makes the command that starts an instance's engine."""

    def command(self, placement: PlacementState, epoch: int, host: str, port: int) -> EngineCommand:
        """Raises CannotStart where this machine cannot run it."""
        ...

    def release(self, instance: str) -> None:
        """The instance's engine is gone: what it occupied is free."""
        ...


class CannotStart(Exception):
    """This machine cannot start the engine now; the text says why, fit for a heartbeat."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Handed to every instance; `changed` tells the reporter that an instance has news."""

    node: str
    settings: WorkerSettings
    clock: Clock
    records: InstanceRecords
    commands: EngineCommands
    ports: EnginePorts
    probe: EngineProbe
    metrics: WorkerMetrics
    logs: Path
    cluster_secret: str = field(repr=False)
    changed: Callable[[str], None]
