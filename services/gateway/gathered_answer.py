"""An answer that is passed on whole: gathered within the bounds of one and of all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway import answers
from services.gateway.answers import Refusal

if TYPE_CHECKING:
    from services.gateway.server import Gateway

_ERROR_BODY_MAX = 65_536


class GatheredAnswer:
    """`held_bytes` are counted by the gateway until it is told that they are released."""

    __slots__ = ("_gateway", "_parts", "held_bytes")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parts: list[bytes] = []
        self.held_bytes = 0

    def add(self, data: bytes, status: int) -> Refusal | None:
        """Hold another piece of an answer with this status; why it cannot be held, or None."""
        limit = self._gateway.settings.answer_bytes_max if status == 200 else _ERROR_BODY_MAX
        if self.held_bytes + len(data) > limit:
            return answers.engine_failed()
        if not self._gateway.answer_held(len(data)):
            return answers.overloaded()
        self.held_bytes += len(data)
        self._parts.append(data)
        return None

    def whole(self) -> bytes:
        return b"".join(self._parts)

    def drop(self) -> None:
        """Another attempt is under way: nothing of this one counts."""
        self._parts = []
        self._gateway.answer_released(self.held_bytes)
        self.held_bytes = 0
