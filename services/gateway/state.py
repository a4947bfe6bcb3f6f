"""Keys, accounts, balances and services: followed from their topics, and kept in a snapshot for when Kafka is away."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from adapters.clock import wall_now
from adapters.errors import Unavailable
from adapters.kafka.state_topic import StateTopic
from schemas import topics
from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState
from schemas.spend import BalanceStated
from services.gateway import snapshot
from services.gateway.admission import Admission
from services.gateway.routing import Routes

logger = logging.getLogger(__name__)

CONFIRM_INTERVAL_S = 2.0
CONFIRM_TIMEOUT_S = 5.0
SNAPSHOT_AGE_MAX_S = 7 * 86_400.0
"""Far below the 30 days after which a deleted key's state leaves its topic: an older one could bring it back."""
SNAPSHOT_AHEAD_S_MAX = 5.0
"""By how much a snapshot may have been written by a clock that was ahead of ours."""


class PlatformState:
    """`ready` once requests can be judged: by Kafka's end offsets at start, or by a snapshot with Kafka away."""

    def __init__(
        self,
        bootstrap: str,
        admission: Admission,
        routes: Routes,
        snapshot_path: Path,
        *,
        snapshot_interval_s: float,
        kafka_wait_s: float,
    ) -> None:
        self._accounts = StateTopic(bootstrap, topics.ACCOUNTS, AccountState, admission.apply_account)
        self._keys = StateTopic(bootstrap, topics.API_KEYS, ApiKeyState, admission.apply_key)
        self._balances = StateTopic(bootstrap, topics.BALANCES, BalanceStated, admission.apply_balance)
        self._deployments = StateTopic(bootstrap, topics.DEPLOYMENTS, DeploymentState, routes.apply)
        self._snapshot_path = snapshot_path
        self._snapshot_interval_s = snapshot_interval_s
        self._kafka_wait_s = kafka_wait_s
        self._confirmed: float | None = None
        self._confirmed_wall: float | None = None
        self._from_snapshot = False
        self._were_caught_up = False
        self.degraded = False

    @property
    def _topics(self) -> tuple[StateTopic[Any], ...]:
        return (self._accounts, self._keys, self._balances, self._deployments)

    @property
    def ready(self) -> bool:
        return self._from_snapshot or self._caught_up()

    def _caught_up(self) -> bool:
        # Once is for ever, and every request asks.
        self._were_caught_up = self._were_caught_up or all(topic.caught_up.is_set() for topic in self._topics)
        return self._were_caught_up

    def age_s(self) -> float:
        """Seconds since all topics were last known to be read to their ends."""
        return time.monotonic() - self._confirmed if self._confirmed is not None else float("inf")

    def load_snapshot(self) -> None:
        """Begin with what was known when the snapshot was written; what the topics hold wins by version."""
        loaded = snapshot.load(self._snapshot_path)
        if loaded is None:
            return
        age_s = wall_now().timestamp() - loaded.confirmed
        if not -SNAPSHOT_AHEAD_S_MAX <= age_s <= SNAPSHOT_AGE_MAX_S:
            # One from the future: the clock was wrong then or is now, and how old it is cannot be told.
            logger.error("snapshot not used", extra={"age_s": round(age_s)})
            return
        self._accounts.preload({state.account: state for state in loaded.accounts})
        self._balances.preload({state.account: state for state in loaded.balances})
        self._keys.preload({state.key_id: state for state in loaded.keys})
        self._deployments.preload({state.service_id: state for state in loaded.deployments})
        self._confirmed = time.monotonic() - max(0.0, age_s)
        self._confirmed_wall = loaded.confirmed

    async def follow(self) -> None:
        """Follow all topics until cancelled."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for topic in self._topics:
                group.create_task(topic.run())
            group.create_task(self._keep_confirming(started))
            group.create_task(self._keep_snapshots())

    async def _keep_confirming(self, started: float) -> None:
        while True:
            try:
                await self._confirm()
            except Unavailable as error:
                if not self.degraded and self._caught_up():
                    logger.warning("state cannot be confirmed", extra={"cause": str(error)})
                self._without_kafka(started)
            else:
                if self._caught_up():
                    self._confirmed = time.monotonic()
                    self._confirmed_wall = wall_now().timestamp()
                    if self.degraded:
                        logger.info("state is confirmed again")
                    self.degraded = False
            await asyncio.sleep(CONFIRM_INTERVAL_S if self._caught_up() else 0.1)

    async def _confirm(self) -> None:
        if not all(topic.connected for topic in self._topics):
            raise Unavailable("Kafka is not being read")
        await asyncio.gather(*(topic.catch_up(CONFIRM_TIMEOUT_S) for topic in self._topics))

    def _without_kafka(self, started: float) -> None:
        if self._caught_up():
            self.degraded = True
        elif (
            self._confirmed is not None and time.monotonic() - started > self._kafka_wait_s and not self._from_snapshot
        ):
            logger.warning("Kafka is away: starting from the snapshot", extra={"age_s": round(self.age_s())})
            self._from_snapshot = True
            self.degraded = True

    async def _keep_snapshots(self) -> None:
        written = 0.0
        while True:
            await asyncio.sleep(self._snapshot_interval_s)
            # Not "later than": behind a clock that was set back, nothing would be kept until it is there again.
            if self._confirmed_wall is None or self._confirmed_wall == written:
                continue
            current = snapshot.Snapshot(
                confirmed=self._confirmed_wall,
                accounts=list(self._accounts.states.values()),
                keys=list(self._keys.states.values()),
                balances=list(self._balances.states.values()),
                deployments=list(self._deployments.states.values()),
            )
            try:
                await asyncio.to_thread(snapshot.save, self._snapshot_path, current)
                written = current.confirmed
            except OSError as error:
                logger.error("snapshot cannot be written", extra={"cause": error.strerror})
