"""Keeps what a library says again and again while Kafka is away out of the logs: once a while is enough."""

from __future__ import annotations

import logging
import time

EVERY_S = 30.0
KINDS_MAX = 1_000
_LIBRARIES = ("aiokafka", "faust", "mode")


class RepeatsFilter(logging.Filter):
    """Lets one record of each kind (logger and text before its values are filled in) through every EVERY_S seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".", 1)[0] not in _LIBRARIES:
            return True
        kind, now = (record.name, str(record.msg)), time.monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < EVERY_S:
            return False
        if len(self._last) >= KINDS_MAX:
            self._last.clear()
        self._last[kind] = now
        return True


def quiet_libraries() -> None:
    """Filter what the handlers of the root logger write."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(RepeatsFilter())
