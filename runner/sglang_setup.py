"""Sets SGLang up on the CPU: its own environment from the hash-locked requirements, and a small model made here.

`make sglang` calls it. About 5 GB on disk and, with a quick network, a minute or two; what is there already is kept.
"""

from __future__ import annotations

import sys

from runner import environments
from runner.environments import REQUIREMENTS, TOOLS
from runner.setup import EXIT_FAILED, EXIT_INTERRUPTED, check_machine, only_one
from runner.setup_steps import PROJECT, SetupError, fingerprint, is_current, run, write_stamp

ENVIRONMENT = TOOLS / "sglang"
MODEL = TOOLS / "sglang-model"
LOCK = REQUIREMENTS / "sglang-cpu.txt"
MODEL_MAKER = PROJECT / "services" / "worker" / "sglang_cpu" / "make_model.py"


def set_up_sglang() -> None:
    """The environment and the model, each made only where it is not what the checkout asks for. Raises SetupError."""
    environments.ensure_uv()
    environments.ensure_environment(ENVIRONMENT)
    # SGLang's own list of dependencies asks for GPU kernels that have no CPU build; the lock is whole without them.
    environments.ensure_packages(ENVIRONMENT, LOCK, lock_is_whole=True)
    ensure_model()


def ensure_model() -> None:
    """The small model, made by SGLang's environment; no download. Raises SetupError."""
    stamp = MODEL / ".stamp"
    wanted = fingerprint(LOCK, MODEL_MAKER)
    if is_current(stamp, wanted):
        return
    run("making the small model", [str(environments.python_of(ENVIRONMENT)), str(MODEL_MAKER), str(MODEL)])
    write_stamp(stamp, wanted)


def main() -> int:
    """Exit code 0 when SGLang is ready to be started."""
    try:
        check_machine()
        with only_one():
            set_up_sglang()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("set-up: interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
