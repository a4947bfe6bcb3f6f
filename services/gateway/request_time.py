"""Whose time a request takes: its engine's, or that of a client that does not read."""

from __future__ import annotations

from typing import Literal

from services.gateway.settings import GatewaySettings

Slow = Literal["engine", "client"]


class RequestTime:
    """Two clocks of which one runs at any time, each with a bound of its own; decision 0032 says why.

    While the client does not read, its clock runs, and the engine is excused. Else the engine's does. So neither can
    use up the other's time, and whoever's bound is reached first is the one who broke the request off.
    Times are those of the event loop, in seconds.
    """

    __slots__ = ("_due", "_engine_until", "_parted", "_paused_s", "_paused_since", "_settings")

    def __init__(self, settings: GatewaySettings, now: float) -> None:
        self._settings = settings
        self._engine_until = now + settings.request_timeout_s
        self._due = now + settings.first_byte_timeout_s
        self._paused_since: float | None = None
        self._paused_s = 0.0
        self._parted = False

    def begun(self, now: float) -> None:
        """Another engine has the request: its first byte is awaited."""
        self._due = now + self._settings.first_byte_timeout_s

    def bytes_came(self, now: float) -> None:
        if not self._parted:
            self._due = now + self._settings.between_bytes_timeout_s

    def paused(self, now: float) -> None:
        """The client does not read."""
        if self._paused_since is None:
            self._paused_since = now

    def resumed(self, now: float) -> None:
        """It reads again: the engine gets back the time that this took."""
        if self._paused_since is None:
            return
        pause_s = now - self._paused_since
        self._paused_since = None
        self._paused_s += pause_s
        self._engine_until += pause_s
        self.bytes_came(now)

    def parted(self, now: float) -> None:
        """Nobody waits for the answer any more: all that is awaited is the engine's last report."""
        self._parted = True
        self._due = now + self._settings.abort_wait_s

    def used_up_by(self, now: float) -> Slow | None:
        """Who has had more time than is given; None while the request may go on."""
        if self._parted:
            return "engine" if now >= self._due else None
        this_pause_s = now - self._paused_since if self._paused_since is not None else 0.0
        if self._paused_s + this_pause_s >= self._settings.client_pauses_timeout_s:
            return "client"
        if self._paused_since is None and (now >= self._due or now >= self._engine_until):
            return "engine"
        return None
