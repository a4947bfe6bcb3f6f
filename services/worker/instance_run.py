"""One instance on this node: its engine is started, watched, drained and ended as its placement says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from adapters.engine_keys import engine_key
from schemas.placements import PlacementState
from services.worker.engine_log import EngineLog, log_path
from services.worker.engine_process import EngineCommand, EngineProcess
from services.worker.instance_report import InstanceReport
from services.worker.records import InstanceRecord
from services.worker.site import CannotStart, Site

logger = logging.getLogger(__name__)

SETTLED_AFTER_S = 60.0
"""An engine that was ready for so long starts again without delay when it dies."""
FIRST_PAUSE_S = 1.0
COUNT_POLL_S = 1.0

Answer = TypeVar("Answer")


class InstanceRun:
    """Runs until the instance has ended for good, or the agent stops. Start `run` as a task.

    `follow` hands in a newer placement (None: its tombstone); `stop` says that the agent ends. Neither blocks: the
    ready period closes at once, the engine is ended by the task.
    """

    def __init__(
        self, site: Site, placement: PlacementState, record: InstanceRecord, leftover: asyncio.Task[None] | None = None
    ) -> None:
        """`leftover` is done once an engine of an earlier run of the agent is gone."""
        self._site = site
        self._placement: PlacementState | None = placement
        self._last_placement = placement
        self._stopping = False
        self._woken = asyncio.Event()
        self._leftover = leftover
        self._failures = 0
        self.report = InstanceReport(site, record)
        self._acknowledge(placement)

    @property
    def instance(self) -> str:
        return self._last_placement.instance

    @property
    def wanted(self) -> str:
        """`running`, `draining` or `ended`; an instance whose placement is gone must end."""
        return self._placement.wanted if self._placement is not None else "ended"

    @property
    def forgotten(self) -> bool:
        """Whether its placement is gone, so that nothing of it need be kept."""
        return self._placement is None

    def follow(self, placement: PlacementState | None) -> None:
        """Take in a newer placement. What once drained or ended never runs again."""
        if placement is not None:
            self._acknowledge(placement)
            self._last_placement = placement
        self._placement = placement
        if self.wanted != "running":
            self._leave()

    def stop(self) -> None:
        """The agent ends: so does the engine, within the bound of a shutdown."""
        self._stopping = True
        self._leave()

    async def run(self) -> None:
        """Until ended or stopped; what goes wrong with one engine start is reported and tried again."""
        if self._leftover is not None:
            await self._leftover
            self.report.process(None)
        while self._may_run():
            failure = await self._one_epoch()
            self._site.commands.release(self.instance)
            if failure is not None and self._may_run():
                self.report.failed(failure)
                self._site.metrics.engine_failures.inc()
                logger.warning("engine ended", extra={"instance": self.instance, "cause": failure})
                await self._pause()
        if self.wanted != "running":
            self.report.ended()
        else:
            self.report.stopped()

    def _may_run(self) -> bool:
        return self.wanted == "running" and not self._stopping

    def _acknowledge(self, placement: PlacementState) -> None:
        self.report.acknowledge(placement.acknowledged_epoch, placement.acknowledged_period)

    def _leave(self) -> None:
        self.report.leaving("draining" if self.wanted != "running" else "not_ready")
        self._woken.set()

    async def _one_epoch(self) -> str | None:
        """Start an engine and stay with it until it is gone. The reason where that was not asked for."""
        try:
            epoch = self.report.next_epoch(self._last_placement.acknowledged_epoch)
        except OSError as error:
            # Without the number on disk a later start could use it again: rather no engine.
            return f"the agent's folder cannot be written ({error.strerror})"
        host = self._site.settings.listen_host
        port: int | None = None
        try:
            port = self._site.ports.take(host)
            command = self._site.commands.command(self._last_placement, epoch, host, port)
            process = await EngineProcess.start(command)
            self._site.metrics.engine_starts.inc()
            return await self._with(process, command, epoch, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except CannotStart as error:
            return str(error)
        except OSError as error:
            return f"the engine cannot be started ({error.strerror})"
        finally:
            if port is not None:
                self._site.ports.give_back(port)

    async def _with(self, process: EngineProcess, command: EngineCommand, epoch: int, address: str) -> str | None:
        """Let the process load, watch and end it. However this is left, nothing of the engine is left."""
        key = engine_key(self._site.cluster_secret, self.instance, epoch)
        process.exited.add_done_callback(lambda _: self._woken.set())
        try:
            self.report.process(process.record)
            self.report.loading(address)
            log = EngineLog(log_path(self._site.logs, self.instance), self._site.settings.engine_log_bytes)
            log.note(f"engine of epoch {epoch} starts on {address}")
            await process.admit(key, command.environment, log)
            failure = await self._watch(process, address, key)
            if failure is None:
                await self._end(process, address, key)
            return failure
        finally:
            await process.kill()
            self.report.process(None)

    async def _watch(self, process: EngineProcess, address: str, key: str) -> str | None:
        """Check the engine until it dies, gives no answer for too long, or is no longer wanted (None)."""
        settings, clock = self._site.settings, self._site.clock
        started = answered = counted = clock.monotonic()
        ready_since: float | None = None
        while self._may_run() and not process.exited.done():
            reason = await self._interruptible(
                self._why_not_ready(address, key, first=ready_since is None), "the check was broken off"
            )
            if not self._may_run() or process.exited.done():
                break
            now = clock.monotonic()
            if reason is None:
                answered = now
                ready_since = now if ready_since is None else ready_since
                self.report.seen_ready()
                if now - ready_since >= SETTLED_AFTER_S:
                    self._failures = 0
                if now - counted >= settings.heartbeat_seconds:
                    counted = now
                    await self._count(address, key)
            elif ready_since is not None:
                self._site.metrics.checks_failed.inc()
                self.report.seen_not_ready(reason)
                if now - answered > settings.unresponsive_seconds:
                    return f"not ready for {settings.unresponsive_seconds:.0f} s: {reason}"
            else:
                self.report.still_loading(reason)
                if now - started > settings.start_timeout_seconds:
                    return f"not ready within {settings.start_timeout_seconds:.0f} s of its start: {reason}"
            await self._interruptible(asyncio.sleep(settings.check_seconds), None)
        if process.exited.done() and self._may_run():
            self._site.metrics.engine_exits.inc()
            self.report.close_period()
            return _how_it_ended(process.exit_code)
        return None

    async def _why_not_ready(self, address: str, key: str, *, first: bool) -> str | None:
        reason = await self._site.probe.why_not_ready(address, key)
        if reason is None and first:
            reason = await self._site.probe.why_not_guarded(address, key)
        return reason

    async def _count(self, address: str, key: str) -> None:
        counters = await self._interruptible(self._site.probe.counters(address, key), None)
        if counters is not None:
            self.report.count(counters)

    async def _end(self, process: EngineProcess, address: str, key: str) -> None:
        """Let running streams finish within the bound, then end what is left."""
        if self._stopping:
            bound_s, settle_s = self._site.settings.shutdown_drain_seconds, 0.0
        else:
            bound_s, settle_s = self._drain_bound_s(), self._site.settings.drain_settle_seconds
        clock = self._site.clock
        began = clock.monotonic()
        asked = False
        while not process.exited.done() and self.wanted != "ended":
            passed = clock.monotonic() - began
            if self._stopping:
                bound_s = min(bound_s, passed + self._site.settings.shutdown_drain_seconds)
            if passed >= bound_s:
                break
            if not asked and passed >= settle_s:
                process.terminate()
                asked = True
            wait_s = min(COUNT_POLL_S, max(0.01, (bound_s if asked else settle_s) - passed))
            await self._interruptible(asyncio.sleep(wait_s), None)
            if not process.exited.done():
                with suppress(TimeoutError):  # an engine that does not answer must not outlast the drain
                    async with asyncio.timeout(max(0.0, bound_s - (clock.monotonic() - began))):
                        await self._count(address, key)

    def _drain_bound_s(self) -> float:
        """Seconds from now until the drain must be over, by the placement's wall clock instant."""
        until = self._last_placement.drain_until
        if until is None:
            return self._site.settings.drain_seconds
        left = (until - self._site.clock.now()).total_seconds()
        return min(max(left, 0.0), self._site.settings.drain_max_seconds)

    async def _pause(self) -> None:
        self._failures += 1
        pause_s = FIRST_PAUSE_S * 2 ** min(self._failures - 1, 16)
        until = self._site.clock.monotonic() + min(pause_s, self._site.settings.restart_pause_max_seconds)
        while self._may_run() and (left_s := until - self._site.clock.monotonic()) > 0:
            await self._interruptible(asyncio.sleep(left_s), None)

    async def _interruptible(self, work: Coroutine[Any, Any, Answer], broken_off: Answer) -> Answer:
        """The work's result, or `broken_off` when something else is wanted or the engine has died meanwhile.

        A wake-up only says "look again": whoever calls this looks at what is wanted and at the process afterwards.
        """
        task = asyncio.ensure_future(work)
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({task, woken}, return_when=asyncio.FIRST_COMPLETED)
            self._woken.clear()
            return task.result() if task.done() else broken_off
        finally:
            for one in (task, woken):
                one.cancel()


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the engine was ended by signal {-exit_code}"
    return f"the engine ended with exit code {exit_code}"
