"""Free loopback ports for servers that tests start."""

import os
import random
import socket
from collections.abc import Mapping

# Below the range from which Linux gives ports to outgoing connections: a port drawn from there may be taken by a
# client of some other test between the draw and the server's start.
LOWEST = 15_000
HIGHEST = 32_000
ATTEMPTS = 1_000

_random = random.SystemRandom()
_given: set[int] = set()


def share_of(environment: Mapping[str, str]) -> range:
    """The ports from which this test process draws. Test processes side by side (pytest-xdist names them) have each a
    share of their own: a port that one has drawn, and its server not yet taken, cannot be drawn by another."""
    every = range(LOWEST, HIGHEST + 1)
    name = environment.get("PYTEST_XDIST_WORKER", "")
    if not name.startswith("gw"):
        return every
    number, workers = int(name.removeprefix("gw")), int(environment["PYTEST_XDIST_WORKER_COUNT"])
    size = len(every) // workers
    # A worker that stands in for one that crashed has a number past the count: it shares, as there is no share left.
    start = number % workers * size
    return every[start : start + size]


def free_port() -> int:
    """A port on which nothing listens, given at most once in this test run."""
    share = share_of(os.environ)
    for _ in range(ATTEMPTS):
        port = _random.choice(share)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {share[0]} and {share[-1]}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
