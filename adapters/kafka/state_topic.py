"""The current state that a compacted topic holds: the highest version per key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from aiokafka import ConsumerRecord

from adapters.kafka.follower import TopicFollower
from adapters.process_metrics import STATE_BAD_RECORDS
from domain.plausible import Implausible, check_plausible
from schemas import codec
from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState
from schemas.placements import PlacementState
from schemas.spend import BalanceStated
from schemas.topics import Topic

logger = logging.getLogger(__name__)

KEY_FIELDS: dict[type[msgspec.Struct], str] = {
    AccountState: "account",
    ApiKeyState: "key_id",
    BalanceStated: "account",
    DeploymentState: "service_id",
    PlacementState: "instance",
}
"""Which field of each kind of state is the key of its record."""

State = TypeVar("State", bound=msgspec.Struct)


class StateTopic(Generic[State]):
    """Keeps `states[key]` at its highest version and tells `on_change(key, state | None)` of each change.

    A repeat or an older version changes nothing; a tombstone removes the key. A record that cannot be decoded, that no
    state can mean, or whose key is not its own is logged and counted: the state before it stays in force.
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
        STATE_BAD_RECORDS[topic.name] += 0
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
            state = self._state_of(key, record.value)
        except (msgspec.DecodeError, Implausible) as error:
            cause = str(error) if isinstance(error, Implausible) else type(error).__name__
            self._skip(record, cause)
            return
        self._keep(key, state)

    def _state_of(self, key: str, value: bytes) -> State:
        state = codec.decode(value, self._state_type).data
        check_plausible(state)
        if getattr(state, KEY_FIELDS[self._state_type]) != key:
            raise Implausible("its key is not its own")
        return state

    def _skip(self, record: ConsumerRecord, cause: str) -> None:
        self.bad_records += 1
        STATE_BAD_RECORDS[self._topic.name] += 1
        place = {"topic": self._topic.name, "partition": record.partition, "offset": record.offset}
        logger.error("state record skipped", extra=place | {"cause": cause})

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
