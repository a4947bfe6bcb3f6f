"""The parts of a node agent that one instance needs, over a folder of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from adapters.clock import Clock
from schemas.placements import PlacementState
from services.worker.engine_ports import EnginePorts
from services.worker.engine_probe import EngineProbe
from services.worker.engine_process import EngineCommand
from services.worker.metrics import WorkerMetrics
from services.worker.records import InstanceRecords
from services.worker.settings import WorkerSettings
from services.worker.site import CannotStart, Site

INSTANCE = "i-000000000001"


def placement(version: int = 1, **changes: object) -> PlacementState:
    """A placement of INSTANCE that wants it running, unless told otherwise."""
    return PlacementState(
        **{
            "instance": INSTANCE,
            "version": version,
            "node": "n-000000000001",
            "service_id": "s-000000000001",
            "access_path": "u-000000000001/test",
            "model": "qwen2.5-7b-instruct",
            "spec": "h20-1x141g",
            "wanted": "running",
            **changes,
        }  # type: ignore[arg-type]
    )


class NoEngines:
    """Commands of a node that cannot start anything."""

    def command(self, placement: PlacementState, epoch: int, host: str, port: int) -> EngineCommand:
        raise CannotStart("this node starts nothing")

    def release(self, instance: str) -> None:
        return


@dataclass
class Place:
    """A site, and which instances said that they had news."""

    folder: Path
    clock: Clock
    commands: object = field(default_factory=NoEngines)
    settings: WorkerSettings = field(default_factory=WorkerSettings)
    ports: EnginePorts = field(default_factory=lambda: EnginePorts(20_000, 31_999))
    news: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        instances = self.folder / "instances"
        instances.mkdir(exist_ok=True)
        self.records = InstanceRecords(instances)
        self.probe = EngineProbe(self.settings.check_timeout_seconds)
        self.site = Site(
            node="n-000000000001",
            settings=self.settings,
            clock=self.clock,
            records=self.records,
            commands=self.commands,  # type: ignore[arg-type]
            ports=self.ports,
            probe=self.probe,
            metrics=WorkerMetrics(CollectorRegistry()),
            logs=self.folder / "logs",
            cluster_secret="a secret of tests",
            changed=self.news.append,
        )
