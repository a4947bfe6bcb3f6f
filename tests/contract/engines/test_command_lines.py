"""The command lines that domain/engine_command.py makes are read by the engines' own parsers as they were meant."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import EngineSpec
from domain.engine_command import EngineAddress, sglang_command, sglang_cpu_command
from tests.contract.engines.conftest import WITH_SGLANG
from tests.contract.engines.running_engine import SGLANG_PYTHON

AT = EngineAddress(host="10.1.2.3", port=31000, api_key="a-key", served_model_name="public/deepseek-r1")
EVERYTHING = EngineSpec(
    model_path="Qwen/Qwen2.5-72B-Instruct-AWQ",
    tensor_parallel_size=4,
    quantization="awq_marlin",
    context_length=32768,
    extra_args=("--mem-fraction-static=0.85",),
)


def _understood(arguments: list[str], *options: str) -> dict[str, Any]:
    reader = Path(__file__).with_name("parse_with_sglang.py")
    done = subprocess.run(
        [str(SGLANG_PYTHON), str(reader), *options],
        input="\n".join(arguments),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


if WITH_SGLANG:

    @pytest.mark.sglang
    def test_sglang_on_gpus_reads_what_the_catalogue_says() -> None:
        command = sglang_command(EVERYTHING, AT, python="python3")
        assert command[:3] == ["python3", "-m", "sglang.launch_server"]
        read = _understood(command[3:])
        assert read["model_path"] == "Qwen/Qwen2.5-72B-Instruct-AWQ"
        assert (read["host"], read["port"], read["api_key"]) == ("10.1.2.3", 31000, "a-key")
        assert read["served_model_name"] == "public/deepseek-r1"
        assert (read["tp_size"], read["quantization"], read["context_length"]) == (4, "awq_marlin", 32768)
        assert read["mem_fraction_static"] == 0.85
        assert read["enable_cache_report"] and read["enable_metrics"] and read["enable_priority_scheduling"]

    @pytest.mark.sglang
    def test_sglang_on_the_cpu_reads_what_its_launcher_says() -> None:
        command = sglang_cpu_command(AT, python="python3", launcher="launch.py", model="/models/small")
        read = _understood(command[2:], "--cpu")
        assert read["model_path"] == "/models/small"
        assert (read["host"], read["port"], read["api_key"]) == ("10.1.2.3", 31000, "a-key")
        assert (read["device"], read["attention_backend"], read["max_total_tokens"]) == ("cpu", "torch_native", 16384)
        assert read["enable_cache_report"] and read["enable_metrics"] and read["enable_priority_scheduling"]
