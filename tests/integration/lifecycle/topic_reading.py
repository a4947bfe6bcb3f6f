"""What lifecycle has published, followed on the real topics; waits with a deadline, never for a fixed time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import ConsumerRecord

from adapters.kafka.follower import TopicFollower
from schemas import codec
from schemas.deployments import DeploymentState
from schemas.instances import InstanceChanged
from schemas.placements import PlacementState
from schemas.topics import DEPLOYMENTS, INSTANCES, PLACEMENTS

Found = TypeVar("Found")
DEADLINE_S = 90.0


async def eventually(look: Callable[[], Found | Awaitable[Found | None] | None]) -> Found:
    """The first result of `look` that is true, within a generous deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            looked = look()
            found = await looked if isinstance(looked, Awaitable) else looked
            if found:
                return found
            await asyncio.sleep(0.05)


class Published:
    """Every event on the three topics since this Kafka began, in order per key."""

    def __init__(self) -> None:
        self._changes: dict[str, InstanceChanged] = {}
        self._placements: list[PlacementState] = []
        self._deployments: list[DeploymentState] = []

    @classmethod
    @asynccontextmanager
    async def following(cls, bootstrap: str) -> AsyncIterator["Published"]:
        """Follow until the block ends."""
        one = cls()
        followers = [
            TopicFollower(bootstrap, INSTANCES, one._take_change),
            TopicFollower(bootstrap, PLACEMENTS, one._take_placement),
            TopicFollower(bootstrap, DEPLOYMENTS, one._take_deployment),
        ]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        try:
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _take_change(self, record: ConsumerRecord) -> None:
        event = codec.decode(record.value, InstanceChanged)
        # The outbox publishes at least once: a repeat is one event, and must be the same one.
        known = self._changes.setdefault(event.id, event.data)
        assert known == event.data, event.id

    def _take_placement(self, record: ConsumerRecord) -> None:
        if record.value is not None:
            self._placements.append(codec.decode(record.value, PlacementState).data)

    def _take_deployment(self, record: ConsumerRecord) -> None:
        if record.value is not None:
            self._deployments.append(codec.decode(record.value, DeploymentState).data)

    def changes(self, instance: str) -> list[InstanceChanged]:
        """An instance's events, each once."""
        return [one for one in self._changes.values() if one.instance == instance]

    def intervals(self, instance: str) -> list[tuple[float, float]]:
        """An instance's billable intervals, as POSIX seconds."""
        return [
            (one.interval.billable_from.timestamp(), one.interval.billable_until.timestamp())
            for one in self.changes(instance)
            if one.interval is not None
        ]

    def placements(self, service: str) -> dict[str, PlacementState]:
        """The newest placement of each instance of a service, named by access path or id."""
        newest: dict[str, PlacementState] = {}
        for one in self._placements:
            if service in (one.access_path, one.service_id) and (
                one.instance not in newest or newest[one.instance].version < one.version
            ):
                newest[one.instance] = one
        return newest

    def placement_messages(self, instance: str) -> list[PlacementState]:
        """Every message of an instance's placement."""
        return [one for one in self._placements if one.instance == instance]

    def deployment(self, access_path: str) -> DeploymentState | None:
        """The newest state of a service."""
        states = [one for one in self._deployments if one.access_path == access_path]
        return max(states, key=lambda one: (one.created, one.version), default=None)

    def deployments(self) -> list[DeploymentState]:
        """Every state of every service of this Kafka."""
        return self._deployments

    def deployment_messages(self, service_id: str) -> list[DeploymentState]:
        """Every message of a service's state."""
        return [one for one in self._deployments if one.service_id == service_id]
