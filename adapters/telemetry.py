"""Structured logs: one JSON object a line on stderr. Never a key, a token, a prompt or an answer.

Keys and the operator's token are masked in each finished line: paths, causes and tracebacks hold text from outside.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.ids import with_keys_masked

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MESSAGE_LENGTH_MAX = 4_000


class _JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage()[:_MESSAGE_LENGTH_MAX],
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-_MESSAGE_LENGTH_MAX:]
        return with_keys_masked(msgspec.json.encode(line, enc_hook=str).decode())


def configure_logging(process: str, level: str = "INFO") -> None:
    """Send every logger to stderr as JSON lines; `logging.info("text", extra={"request_id": ...})` adds fields."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("aiokafka", "httpx", "httpcore", "uvicorn.access", "LiteLLM", "faust", "mode", "kafka"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # At a platform's first start topics are asked for before they exist: whoever waits for them says so itself.
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)
