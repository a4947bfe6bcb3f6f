"""From a placement to the command of its engine, on this machine and for its kind of engine."""

from __future__ import annotations

import sys
from pathlib import Path

from domain.catalogue import Catalogue, EngineSpec
from domain.engine_command import EngineAddress, SimulatedPace, sglang_command, sglang_cpu_command, simulated_command
from schemas.placements import PlacementState
from services.worker.engine_process import EngineCommand
from services.worker.gpu_slots import GpuSlots
from services.worker.settings import WorkerSettings
from services.worker.site import CannotStart

CPU_LAUNCHER = Path(__file__).with_name("sglang_cpu") / "launch.py"
_KEY_OPTION = "--api-key="


class CatalogueCommands:
    """Engines as the catalogue describes them. On GPUs each instance gets GPUs of its own."""

    def __init__(self, settings: WorkerSettings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._gpus = GpuSlots(settings.slots)

    def command(self, placement: PlacementState, epoch: int, host: str, port: int) -> EngineCommand:
        """Raises CannotStart for a model or spec that this machine's catalogue lacks, or too few free GPUs."""
        model = self._catalogue.models.get(placement.model)
        if model is None:
            raise CannotStart(f"the model {placement.model} is not in this node's catalogue")
        at = EngineAddress(host=host, port=port, api_key="", served_model_name=placement.access_path)
        environment = self._gpus_of(placement) if self._settings.engine == "sglang" else {}
        try:
            python, *target = self._argv(model.engine, at, placement.instance)
        except ValueError as error:
            raise CannotStart(str(error)) from error
        # The key reaches the engine another way, see engine_start.py.
        target = [argument for argument in target if not argument.startswith(_KEY_OPTION)]
        return EngineCommand(python=Path(python), target=tuple(target), environment=environment)

    def release(self, instance: str) -> None:
        self._gpus.give_back(instance)

    def _argv(self, engine: EngineSpec, at: EngineAddress, instance: str) -> list[str]:
        settings = self._settings
        match settings.engine:
            case "sglang":
                return sglang_command(engine, at, python=str(settings.sglang_python))
            case "sglang-cpu":
                return sglang_cpu_command(
                    at, python=str(settings.sglang_python), launcher=str(CPU_LAUNCHER), model=str(settings.cpu_model)
                )
            case "simulated":
                ledgers = settings.simulated_ledgers
                pace = SimulatedPace(
                    tokens_per_second=settings.simulated_tokens_per_second,
                    load_seconds=settings.simulated_load_seconds,
                    ledger=None if ledgers is None else str(ledgers / f"{instance}.jsonl"),
                    faults=settings.simulated_faults,
                )
                return simulated_command(engine, at, pace, python=sys.executable)

    def _gpus_of(self, placement: PlacementState) -> dict[str, str]:
        spec = self._catalogue.specs.get(placement.spec)
        if spec is None:
            raise CannotStart(f"the spec {placement.spec} is not in this node's catalogue")
        gpus = self._gpus.take(placement.instance, spec.gpus)
        if gpus is None:
            raise CannotStart(f"{spec.gpus} GPUs are needed and fewer are free on this node")
        return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
