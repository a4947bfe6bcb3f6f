"""Reads a command line, one argument a line of the input, with SGLang's own parser and prints what it understood.

Run by SGLang's own Python: the options of `python -m sglang.launch_server`, or with --cpu those of our CPU launcher."""

import json
import sys
from pathlib import Path

CPU = Path(__file__).resolve().parents[3] / "services" / "worker" / "sglang_cpu"
NAMES = [
    "model_path",
    "host",
    "port",
    "api_key",
    "served_model_name",
    "tp_size",
    "quantization",
    "context_length",
    "enable_cache_report",
    "enable_metrics",
    "enable_priority_scheduling",
    "device",
    "attention_backend",
    "max_total_tokens",
    "mem_fraction_static",
]


def main() -> None:
    arguments = sys.stdin.read().splitlines()
    sys.path[:0] = [str(CPU), str(CPU / "on_path")]
    import launch
    from sglang.launch_server import prepare_server_args

    if "--cpu" in sys.argv:
        arguments = launch.arguments_of_sglang(arguments)
    understood = prepare_server_args(arguments)
    print("\n" + json.dumps({name: getattr(understood, name) for name in NAMES}))


if __name__ == "__main__":
    main()
