"""Becomes this platform's Kafka node: `python -m runner.kafka_process` formats a new folder, then is the broker."""

from __future__ import annotations

import os
import subprocess
import sys

from pydantic import ValidationError

from adapters import open_files
from runner.kafka import KafkaError, format_data, server_command
from runner.settings import RunnerSettings


def main() -> int:
    """Does not return where all is well; else exit code 1 with one line that names the cause."""
    try:
        node = RunnerSettings().kafka_node
        format_data(node)
    except (KafkaError, ValidationError, OSError, subprocess.TimeoutExpired) as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1
    open_files.raise_limit()
    # The same process id, so that signals and the supervisor's record meet the broker itself.
    command = server_command(node)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    sys.exit(main())
