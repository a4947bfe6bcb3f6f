"""Kept connections to each instance: taken last in first out, bounded, closed when idle or when the instance goes."""

from __future__ import annotations

import asyncio
import logging

from services.gateway.models import Instance
from services.gateway.upstream_connection import UpstreamConnection

logger = logging.getLogger(__name__)


class UpstreamPool:
    """`size` bounds the connections to one instance, times are in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, size: int, idle_s: float, connect_timeout_s: float) -> None:
        self._loop = loop
        self._size = size
        self._idle_s = idle_s
        self._connect_timeout_s = connect_timeout_s

    def has_room(self, instance: Instance) -> bool:
        return instance.in_flight < self._size

    def take(self, instance: Instance) -> UpstreamConnection | None:
        """An idle connection, or None where one must be opened."""
        idle = instance.idle
        while idle:
            connection = idle.pop()
            if not connection.lost and connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, instance: Instance) -> UpstreamConnection:
        """Open one. Raises OSError or TimeoutError."""
        async with asyncio.timeout(self._connect_timeout_s):
            _, connection = await self._loop.create_connection(
                lambda: UpstreamConnection(self, instance), instance.host, instance.port
            )
        instance.opened += 1
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        if connection.instance.withdrawn:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        connection.instance.idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        instance = connection.instance
        instance.opened = max(0, instance.opened - 1)
        if connection in instance.idle:
            instance.idle.remove(connection)

    def withdraw(self, instance: Instance) -> None:
        """The instance takes no new request: close what is idle; running exchanges keep theirs to the end."""
        instance.withdrawn = True
        self.close_idle([instance])

    def close_idle(self, instances: list[Instance]) -> None:
        for instance in instances:
            while instance.idle:
                instance.idle.pop().close()

    def sweep(self, instances: list[Instance]) -> None:
        """Close what has been idle too long (an engine closes its own side after a while; be there first)."""
        oldest = self._loop.time() - self._idle_s
        for instance in instances:
            for connection in [held for held in instance.idle if held.idle_since < oldest]:
                connection.close()
                if connection in instance.idle:
                    instance.idle.remove(connection)
