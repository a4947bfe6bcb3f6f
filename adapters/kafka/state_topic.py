"""The current state that a compacted topic holds: the highest version per key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from aiokafka import ConsumerRecord

from adapters.kafka.follower import TopicFollower
from schemas import codec
from schemas.topics import Topic

logger = logging.getLogger(__name__)


State = TypeVar("State", bound=msgspec.Struct)


class StateTopic(Generic[State]):
    """Keeps `states[key]` at its highest version and tells `on_change(key, state | None)` of each change.

    A repeat or an older version changes nothing; a tombstone removes the key. A record that cannot be decoded is
    logged and counted in `bad_records`: the state before it stays in force.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        state_type: type[State],
        on_change: Callable[[str, State | None], None] | None = None,
    ) -> None:
        self.states: dict[str, State] = {}
        self.bad_records = 0
        self._topic = topic
        self._state_type = state_type
        self._on_change = on_change
        self._follower = TopicFollower(bootstrap, topic, self._take)
        self.run = self._follower.run
        self.catch_up = self._follower.catch_up
        self.caught_up = self._follower.caught_up

    @property
    def connected(self) -> bool:
        """Whether Kafka is being read now."""
        return self._follower.connected

    def preload(self, states: dict[str, State]) -> None:
        """Begin with states kept elsewhere (a snapshot); what the topic holds wins by version."""
        for key, state in states.items():
            self._keep(key, state)

    def _take(self, record: ConsumerRecord) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            if self.states.pop(key, None) is not None and self._on_change:
                self._on_change(key, None)
            return
        try:
            state = codec.decode(record.value, self._state_type).data
        except msgspec.DecodeError as error:
            self.bad_records += 1
            logger.error(
                "state record skipped",
                extra={
                    "topic": self._topic.name,
                    "partition": record.partition,
                    "offset": record.offset,
                    "cause": type(error).__name__,
                },
            )
            return
        self._keep(key, state)

    def _keep(self, key: str, state: State) -> None:
        known = self.states.get(key)
        if known is not None and _version(known) >= _version(state):
            return
        self.states[key] = state
        if self._on_change:
            self._on_change(key, state)


def _version(state: msgspec.Struct) -> int:
    version: int = state.version  # type: ignore[attr-defined]  # every state event has one, by schemas/
    return version
