"""Lets aiokafka see that uvloop has closed a connection.

After a reset uvloop's transport refuses a write with RuntimeError, some turns of the loop before it tells that the
connection is lost. aiokafka 0.14 expects OSError alone: the error ended tasks of its own that nobody looks after, such
as the one that fetches, and a reader was ready for ever and read nothing (aio-libs/aiokafka#1038).
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


def tell_lost_connections() -> None:
    """For every connection of this process: a write to a closed transport is a lost connection."""
    send = AIOKafkaConnection.send

    def telling(self: Any, request: Any, expect_response: bool = True) -> Any:
        try:
            return send(self, request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} closed: {error}") from error

    AIOKafkaConnection.send = telling
