"""The node agent: runs what the placements of its node say, and tells of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import get_args

from adapters.kafka.state_topic import StateTopic
from domain.ids import INSTANCE
from schemas.heartbeats import EngineState, NodeHeartbeat
from schemas.placements import PlacementState
from schemas.topics import PLACEMENTS
from services.worker.engine_log import prune
from services.worker.engine_process import end_leftover
from services.worker.heartbeats import HeartbeatSender
from services.worker.instance_report import InstanceReport
from services.worker.instance_run import InstanceRun
from services.worker.node_folder import NodeFolder
from services.worker.readiness_log import ReadinessLog
from services.worker.records import InstanceRecord
from services.worker.site import Site

logger = logging.getLogger(__name__)

FAREWELL_TIMEOUT_S = 5.0
"""What the last heartbeats may take once the engines are gone; the next start says what they could not."""

SiteFor = Callable[[Callable[[str], None]], Site]
"""Makes the site, given what an instance calls when it has news."""


class Agent:
    """Start `run` once. Instances are tasks; a fault of one is reported as its failure and stops no other."""

    def __init__(
        self, folder: NodeFolder, site_for: SiteFor, sender: HeartbeatSender, readiness: ReadinessLog, bootstrap: str
    ) -> None:
        self._identity = folder.identity
        self._sender = sender
        self._readiness = readiness
        self._site = site_for(sender.changed)
        self._placements = StateTopic(bootstrap, PLACEMENTS, PlacementState, self._placed)
        self._records: dict[str, InstanceRecord] = {}
        self._leftovers: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, InstanceRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._following = False
        self._beat = 0

    def readiness(self) -> tuple[bool, str]:
        """Ready once all placements are read, and while they are being followed."""
        if not self._following and not self._placements.connected:
            return False, "Kafka has not answered yet: no engine is started before placements are known"
        if not self._following:
            return False, "placements are not read yet"
        if not self._placements.connected or not self._sender.kafka_answers:
            return False, "Kafka is away; engines go on as last told"
        return True, f"{len(self._runs)} instances"

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then engines drain within the bound of a shutdown and the last heartbeats leave."""
        self._records, damaged = self._site.records.load_all()
        if damaged:
            logger.error("damaged records left out: their unreported ready seconds are lost", extra={"files": damaged})
        self._end_leftovers()
        followed = asyncio.create_task(self._placements.run(), name="placements")
        told = asyncio.create_task(
            self._sender.run(self._reports, self._node_heartbeat, self._look_after), name="beats"
        )
        starting = asyncio.create_task(self._start_following(), name="first placements")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({followed, told, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (followed, told):
                if ended.done():
                    ended.result()
        finally:
            self._following = False
            for task in (starting, followed):
                task.cancel()
            stopped.cancel()
            await self._leave()
            told.cancel()
            await asyncio.gather(starting, followed, told, stopped, return_exceptions=True)
        await self._farewell()

    # Placements.

    async def _start_following(self) -> None:
        # Older states stand in the topic before newer ones: nothing may start before all are read.
        await self._placements.caught_up.wait()
        self._following = True
        for instance, placement in list(self._placements.states.items()):
            self._placed(instance, placement)
        logger.info("placements are read", extra={"node": self._identity.node, "instances": len(self._runs)})

    def _placed(self, instance: str, placement: PlacementState | None) -> None:
        if not self._following:
            return
        run = self._runs.get(instance)
        if run is not None:
            run.follow(placement)
        elif placement is None:
            if self._records.pop(instance, None) is not None:
                self._forget(instance)
        elif placement.node == self._identity.node:
            self._start(placement)

    def _start(self, placement: PlacementState) -> None:
        instance = placement.instance
        if INSTANCE.fullmatch(instance) is None:
            # It names files and stands in this node's heartbeats, which lifecycle would refuse whole.
            logger.error("a placement of no instance is left out", extra={"instance": instance[:100]})
            return
        record = self._records.setdefault(instance, InstanceRecord(instance=instance))
        if record.life == "ended_reported":
            return
        run = InstanceRun(self._site, placement, record, self._leftovers.get(instance))
        self._runs[instance] = run
        self._tasks[instance] = asyncio.create_task(self._keep_running(run), name=instance)

    async def _keep_running(self, run: InstanceRun) -> None:
        while True:
            try:
                await run.run()
                return
            except Exception as error:
                logger.exception("instance task failed", extra={"instance": run.instance})
                run.report.failed(f"the node agent failed: {type(error).__name__}")
            await asyncio.sleep(self._site.settings.restart_pause_max_seconds)

    def _end_leftovers(self) -> None:
        drain_s = self._site.settings.leftover_drain_seconds
        for instance, record in self._records.items():
            if record.process is not None:
                ending = end_leftover(record.process, drain_s)
                self._leftovers[instance] = asyncio.create_task(ending, name=f"leftover of {instance}")

    # What is told.

    def _reports(self) -> dict[str, InstanceReport]:
        return {instance: run.report for instance, run in self._runs.items()}

    def _node_heartbeat(self) -> NodeHeartbeat:
        settings = self._site.settings
        self._beat += 1
        return NodeHeartbeat(
            node=self._identity.node,
            start=self._identity.start,
            beat=self._beat,
            sent=self._site.clock.now(),
            region=settings.region,
            engine=settings.engine,
            gpu=settings.reported_gpu,
            gpus=settings.slots,
            memory_gb=settings.memory_gb,
            instances=tuple(sorted(i for i, run in self._runs.items() if run.report.state != "ended")),
        )

    def _look_after(self) -> None:
        """After each round of heartbeats: let go of what has ended and been heard."""
        for instance, run in list(self._runs.items()):
            if self._tasks[instance].done() and run.wanted == "ended" and run.report.is_over:
                run.report.retire()
                del self._runs[instance], self._tasks[instance]
                self._readiness.forget(instance)
                if run.forgotten:
                    self._records.pop(instance, None)
                    self._forget(instance)
                prune(self._site.logs, self._site.settings.engine_logs_kept, keep=self._runs)
        self._show()

    def _show(self) -> None:
        states = Counter(run.report.state for run in self._runs.values())
        for state in get_args(EngineState):
            self._site.metrics.instances.labels(state).set(states[state])
        waiting = sum(run.report.unacknowledged_periods for run in self._runs.values())
        self._site.metrics.periods_unacknowledged.set(waiting)

    def _forget(self, instance: str) -> None:
        try:
            self._site.records.delete(instance)
        except OSError as error:
            logger.warning("record not deleted", extra={"instance": instance, "cause": error.strerror})

    # The end of the agent.

    async def _leave(self) -> None:
        for run in self._runs.values():
            run.stop()
        await asyncio.gather(*self._tasks.values(), *self._leftovers.values(), return_exceptions=True)

    async def _farewell(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_TIMEOUT_S):
                await self._sender.round(self._reports().values(), None)
        except TimeoutError:
            logger.warning("the last heartbeats did not leave; the next start of the agent sends them")
