"""Ports for engines, below the range from which the machine draws ports of outgoing connections.

An engine binds its port only once it has loaded, which may take half an hour: a port from the machine's own range could
be some client's by then.
"""

from __future__ import annotations

import logging
import random
import socket

logger = logging.getLogger(__name__)

ATTEMPTS = 200


class EnginePorts:
    """Gives ports of `first` to `last` that nobody listens on, each to one engine at a time."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._last = last
        self._given: set[int] = set()
        self._random = random.SystemRandom()

    def take(self, host: str) -> int:
        """A port free on `host` now. Raises OSError.

        An engine that finds it taken all the same ends, and its next start draws another.
        """
        for _ in range(ATTEMPTS):
            port = self._random.randint(self._first, self._last)
            if port not in self._given and _is_free(host, port):
                self._given.add(port)
                return port
        logger.warning("no port is free", extra={"host": host, "first": self._first, "last": self._last})
        # What is raised becomes the instance's reason, which its customer reads.
        raise OSError(0, "no port is free for an engine")

    def give_back(self, port: int) -> None:
        self._given.discard(port)


def _is_free(host: str, port: int) -> bool:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
