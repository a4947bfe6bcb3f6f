"""From a placement to an engine's command on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.catalogue_text import load_catalogue
from schemas.placements import PlacementState
from services.worker.engine_commands import CatalogueCommands
from services.worker.settings import WorkerSettings
from services.worker.site import CannotStart


def placement(
    instance: str = "i-000000000001", model: str = "qwen2.5-7b-instruct", spec: str = "h20-1x141g"
) -> PlacementState:
    return PlacementState(
        instance=instance,
        version=1,
        node="n-000000000001",
        service_id="s-000000000001",
        access_path="u-000000000001/mine",
        model=model,
        spec=spec,
        wanted="running",
    )


@pytest.fixture
def commands(project_root: Path) -> CatalogueCommands:
    settings = WorkerSettings(engine="sglang", gpu="h20", gpus=9, memory_gb=141)
    return CatalogueCommands(settings, load_catalogue(project_root / "config"))


@pytest.mark.parametrize("engine", ["simulated", "sglang-cpu", "sglang"])
def test_no_command_carries_a_key(project_root: Path, engine: str) -> None:
    settings = WorkerSettings.model_validate({"engine": engine, "gpu": "h20", "gpus": 8, "memory_gb": 141})
    command = CatalogueCommands(settings, load_catalogue(project_root / "config")).command(
        placement(), 1, "127.0.0.1", 20_001
    )
    assert not [argument for argument in command.target if "api-key" in argument]
    assert "--port=20001" in command.target
    assert "--host=127.0.0.1" in command.target


def test_instances_get_gpus_of_their_own_and_give_them_back(commands: CatalogueCommands) -> None:
    def gpus(instance: str, model: str, spec: str) -> str:
        command = commands.command(placement(instance, model, spec), 1, "127.0.0.1", 20_001)
        return command.environment["CUDA_VISIBLE_DEVICES"]

    assert gpus("i-1", "qwen2.5-7b-instruct", "h20-1x141g") == "0"
    assert gpus("i-2", "deepseek-r1", "h20-8x141g") == "1,2,3,4,5,6,7,8"
    assert gpus("i-1", "qwen2.5-7b-instruct", "h20-1x141g") == "0", "its next epoch runs where it ran"
    with pytest.raises(CannotStart, match="1 GPUs are needed and fewer are free"):
        gpus("i-3", "qwen2.5-7b-instruct", "h20-1x141g")
    commands.release("i-1")
    assert gpus("i-3", "qwen2.5-7b-instruct", "h20-1x141g") == "0"


def test_what_the_catalogue_lacks_cannot_start(commands: CatalogueCommands) -> None:
    with pytest.raises(CannotStart, match="the model unheard-of is not in"):
        commands.command(placement(model="unheard-of"), 1, "127.0.0.1", 20_001)
    with pytest.raises(CannotStart, match="the spec unheard-of is not in"):
        commands.command(placement(spec="unheard-of"), 1, "127.0.0.1", 20_001)


def test_a_simulated_engine_counts_in_a_ledger_of_its_instance(project_root: Path, tmp_path: Path) -> None:
    settings = WorkerSettings(simulated_ledgers=tmp_path)
    commands = CatalogueCommands(settings, load_catalogue(project_root / "config"))
    command = commands.command(placement("i-7"), 1, "127.0.0.1", 20_001)
    assert f"--ledger={tmp_path}/i-7.jsonl" in command.target
    assert command.environment == {}
