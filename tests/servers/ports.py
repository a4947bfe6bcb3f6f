"""Free loopback ports for servers that tests start."""

import random
import socket

# Below the range from which Linux gives ports to outgoing connections: a port drawn from there may be taken by a
# client of some other test between the draw and the server's start.
LOWEST = 15_000
HIGHEST = 32_000
ATTEMPTS = 1_000

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port on which nothing listens, given at most once in this test run."""
    for _ in range(ATTEMPTS):
        port = _random.randint(LOWEST, HIGHEST)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
