"""The parts of lifecycle that run beside its HTTP interface, wired: heartbeats, reconciler, outbox, republishing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from adapters.clock import Clock
from adapters.database.engine import Database
from adapters.database.outbox import OutboxRelay
from adapters.errors import Unavailable
from adapters.kafka.fenced_producer import FencedProducer
from domain.catalogue import Catalogue
from services.lifecycle.commands import Commands
from services.lifecycle.heartbeats import HeartbeatReader
from services.lifecycle.liveness import Liveness
from services.lifecycle.metrics import LAST_HEARTBEAT
from services.lifecycle.node_clocks import NodeClocks
from services.lifecycle.reconciler import AccountClosed, Reconciler, nobody
from services.lifecycle.republishing import Republishing
from services.lifecycle.settings import LifecycleSettings
from services.lifecycle.storage import Storage

logger = logging.getLogger(__name__)

DATABASE_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class Lifecycle:
    """Everything but HTTP."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        bootstrap: str,
        catalogue: Catalogue,
        settings: LifecycleSettings,
        *,
        account_closed: AccountClosed = nobody,
    ) -> None:
        bounds = settings.bounds()
        self.storage = Storage(database, clock)
        self.commands = Commands(self.storage, catalogue, bounds)
        self.liveness = Liveness(clock)
        LAST_HEARTBEAT.set_function(self.liveness.since_any_heartbeat_s)
        self.producer = FencedProducer(bootstrap, "hydra.lifecycle.outbox")
        self.relay = OutboxRelay(database, self.producer, clock)
        self.node_clocks = NodeClocks(clock)
        self.reader = HeartbeatReader(
            bootstrap, self.storage, self.liveness, self.node_clocks, interval_s=settings.interval_s
        )
        self.reconciler = Reconciler(self.storage, self.liveness, catalogue, bounds, account_closed=account_closed)
        self.republishing = Republishing(self.storage, every_s=settings.republish_every_s)

    @property
    def reason(self) -> str:
        """Why lifecycle is not ready now; empty when it is."""
        return self.reader.reason or self.reconciler.reason or self.relay.reason

    async def prepare(self) -> None:
        """Migrate, and deploy the shared models where this platform is new. Raises Unavailable, Misconfigured.

        A database that does not answer is waited for, so that it may start after lifecycle.
        """
        for pause_s in DATABASE_PAUSES_S:
            try:
                await self.storage.migrate()
                break
            except Unavailable as error:
                logger.warning("start waits", extra={"cause": str(error), "pause_s": pause_s})
                await asyncio.sleep(pause_s)
        else:
            await self.storage.migrate()
        async with self.storage.deciding() as session:
            count = await self.commands.deploy_shared_once(session)
        if count:
            logger.info("first start: shared models are deployed", extra={"services": count})

    def parts(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What must run all the time; none of them ends by itself. To be run inside `publishing`."""
        return self.reader.run(), self.reconciler.run(), self.relay.run(), self.republishing.run()

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """The producer's life: longer than that of the parts, which use it while they stop."""
        try:
            yield
        finally:
            await self.producer.stop()
