"""The health check of a container: `python -m runner.container_probe PROCESS` asks the process whether it is ready.

Runs every few seconds in every container, so it imports next to nothing.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException

from runner.container_place import EVERY_ADDRESS, HALTED, listen_address
from runner.processes import PROCESSES

TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 4096


def main(name: str) -> int:
    """Exit code 0 when it is ready, else 1; its own word on why is printed, for `docker inspect`."""
    process = next(each for each in PROCESSES if each.name == name)
    if HALTED.exists():
        print(HALTED.read_text(), end="")
        return 1
    host = listen_address(process)
    connection = HTTPConnection("127.0.0.1" if host == EVERY_ADDRESS else host, process.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", process.health_path)
        answer = connection.getresponse()
        print(answer.read(ANSWER_BYTES_MAX).decode(errors="replace"))
    except (OSError, HTTPException) as error:
        print(f"{name} does not answer: {error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
