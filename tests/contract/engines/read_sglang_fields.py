"""Writes the fields of the pinned SGLang's two request types as JSON. Run by SGLang's own Python:

`.tools/sglang/bin/python tests/contract/engines/read_sglang_fields.py OUTPUT`"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

ON_PATH = Path(__file__).resolve().parents[3] / "services" / "worker" / "sglang_cpu" / "on_path"


def main() -> None:
    sys.path.insert(0, str(ON_PATH))
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest, CompletionRequest

    fields = {
        "sglang": version("sglang"),
        "chat": sorted(ChatCompletionRequest.model_fields),
        "completions": sorted(CompletionRequest.model_fields),
    }
    Path(sys.argv[1]).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
