"""Command lines of engines. That SGLang reads them as meant is tested in tests/contract/engines/."""

import pytest

from domain.catalogue import EngineSpec
from domain.engine_command import (
    EngineAddress,
    SimulatedPace,
    check_extra_args,
    sglang_command,
    sglang_cpu_command,
    simulated_command,
)

AT = EngineAddress(host="127.0.0.1", port=31000, api_key="a-key", served_model_name="public/phi-4")


def test_sglang_on_gpus() -> None:
    engine = EngineSpec(model_path="microsoft/phi-4", tensor_parallel_size=2, extra_args=("--mem-fraction-static=0.8",))
    command = sglang_command(engine, AT, python="/opt/python")
    assert command[:3] == ["/opt/python", "-m", "sglang.launch_server"]
    assert "--model-path=microsoft/phi-4" in command
    assert "--tensor-parallel-size=2" in command
    assert "--port=31000" in command
    assert "--served-model-name=public/phi-4" in command
    assert "--enable-cache-report" in command
    assert command[-1] == "--mem-fraction-static=0.8"
    assert not any(argument.startswith(("--quantization", "--context-length")) for argument in command)


def test_quantisation_and_context_length_only_where_the_catalogue_has_them() -> None:
    command = sglang_command(EngineSpec(model_path="m", quantization="awq", context_length=4096), AT, python="python")
    assert "--quantization=awq" in command
    assert "--context-length=4096" in command


@pytest.mark.parametrize("argument", ["--api-key=x", "--port", "--host=0.0.0.0", "--model-path=y", "--config=f"])
def test_a_catalogue_cannot_set_what_the_platform_sets(argument: str) -> None:
    with pytest.raises(ValueError, match="is set by the platform"):
        check_extra_args(("--log-level=info", argument))
    with pytest.raises(ValueError, match="is set by the platform"):
        sglang_command(EngineSpec(model_path="m", extra_args=(argument,)), AT, python="python")


def test_sglang_on_the_cpu_runs_the_small_model_by_its_launcher() -> None:
    command = sglang_cpu_command(AT, python="/sglang/python", launcher="/x/launch.py", model="/models/small")
    assert command[:3] == ["/sglang/python", "/x/launch.py", "--model=/models/small"]
    assert "--enable-cache-report" in command


def test_the_simulated_engine() -> None:
    pace = SimulatedPace(tokens_per_second=50, load_seconds=1.5, ledger="/x/ledger", faults=True)
    command = simulated_command(EngineSpec(model_path="m", context_length=4096), AT, pace, python="python")
    assert command[:3] == ["python", "-m", "services.worker.simulated_engine"]
    for option in ("--tokens-per-second=50", "--load-seconds=1.5", "--ledger=/x/ledger", "--faults"):
        assert option in command
    assert "--context-length=4096" in command
    assert "--faults" not in simulated_command(EngineSpec(model_path="m"), AT, SimulatedPace(), python="python")
