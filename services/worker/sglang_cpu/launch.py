"""Starts SGLang's own server on the CPU. Runs inside SGLang's environment; `make sglang` makes that.

Usage: `python launch.py --model FOLDER --port PORT [--api-key KEY] [--host HOST] [--served-model-name NAME] [SGLang's
own options]`. Whatever is not named here goes to SGLang as it stands, after the options that the CPU needs.

The module's top level prepares the import path because SGLang's children are spawned and run this module again."""

# mypy: disable-error-code="import-not-found"
# SGLang's environment is not the one that types are checked in.

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The one-file sgl_kernel, for this process and, through PYTHONPATH, for whatever else it starts.
_ON_PATH = str(Path(__file__).resolve().parent / "on_path")
if _ON_PATH not in sys.path:
    sys.path.insert(0, _ON_PATH)
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([_ON_PATH, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)
for _name, _value in {
    "SGLANG_USE_CPU_ENGINE": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)

import torch  # noqa: E402 - after the environment that it reads

if torch.version.cuda is None:
    # torchvision's operators are missing beside a +cpu torch; beside the CUDA build a second definition aborts.
    _torchvision_operators = torch.library.Library("torchvision", "DEF")
    for _schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        _torchvision_operators.define(_schema)

CPU_OPTIONS = (
    "--device=cpu",
    "--dtype=bfloat16",
    "--attention-backend=torch_native",
    "--sampling-backend=pytorch",
    "--cuda-graph-backend-decode=disabled",
    "--cuda-graph-backend-prefill=disabled",
    "--disable-overlap-schedule",
    "--max-total-tokens=16384",
    "--max-running-requests=32",
    "--sleep-on-idle",
)


def arguments_of_sglang(argv: list[str]) -> list[str]:
    """SGLang's own command line for `argv`, this launcher's."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--served-model-name")
    known, rest = parser.parse_known_args(argv)
    options = [f"--model-path={known.model}", f"--host={known.host}", f"--port={known.port}", *CPU_OPTIONS]
    if known.api_key:
        options.append(f"--api-key={known.api_key}")
    if known.served_model_name:
        options.append(f"--served-model-name={known.served_model_name}")
    return options + rest


def main() -> None:
    """Serves until SIGTERM, then drains; whatever SGLang started ends with it."""
    from sglang.launch_server import prepare_server_args, run_server
    from sglang.srt.utils import kill_process_tree

    try:
        run_server(prepare_server_args(arguments_of_sglang(sys.argv[1:])))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main()
