"""Runs the platform on this machine: the door for the command, and `python -m runner.supervisor`, the platform itself.

`run_foreground` until a signal, `start_detached` and `stop` for one in the background. Who wants to see a platform
reads `runner.status`.
"""

from __future__ import annotations

import sys

from adapters.errors import Misconfigured
from runner.background import start_detached, stop
from runner.foreground import EXIT_FAILED, run_foreground
from runner.settings import read_settings

__all__ = ["run_foreground", "start_detached", "stop"]


def main() -> int:
    """The platform without a terminal: what happens stands in `logs/supervisor.log`."""
    try:
        settings = read_settings()
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return run_foreground(settings)


if __name__ == "__main__":
    sys.exit(main())
