"""What gateways that are gone have left in their spools is published by any gateway that finds it unlocked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from adapters.errors import Unavailable
from adapters.kafka.producer import EventProducer
from schemas import topics
from services.gateway.metrics import Metrics
from services.gateway.spool_files import DAMAGED_SUFFIX, FolderLock, check_records, left_behind, segments, sync

logger = logging.getLogger(__name__)


class Adoption:
    """Looks through `root` at start and every `interval_s`; a folder's lock is held while it is published."""

    def __init__(
        self, root: Path, own: Path, producer: EventProducer, metrics: Metrics, *, interval_s: float, batch_max: int
    ) -> None:
        self._root = root
        self._own = own
        self._producer = producer
        self._metrics = metrics
        self._interval_s = interval_s
        self._batch_max = batch_max

    async def run(self, own_leftovers: list[Path]) -> None:
        """`own_leftovers` are segments that an earlier run under this gateway's own name has left."""
        while True:
            self._metrics.damaged_spools = sum(1 for _ in self._root.glob(f"*{DAMAGED_SUFFIX}"))
            try:
                await self.adopt_all(own_leftovers)
                self._metrics.adoption_waits_since = None
            except (Unavailable, OSError) as error:
                if self._metrics.adoption_waits_since is None:
                    self._metrics.adoption_waits_since = time.monotonic()
                logger.warning("adoption waits", extra={"cause": str(error)})
                await asyncio.sleep(min(self._interval_s, 2.0))
                continue
            await asyncio.sleep(self._interval_s)

    async def adopt_all(self, own_leftovers: Sequence[Path] = ()) -> None:
        """Adopt what is left of `own_leftovers`, then every folder that nobody holds.

        Raises Unavailable at once with Kafka away. Raises the first OSError of a folder once all others had their turn.
        """
        failed: OSError | None = None
        for folder in sorted(self._root.iterdir(), key=lambda folder: (folder != self._own, folder)):
            try:
                if folder == self._own:
                    # At each look, as another's is: one that cannot be read is counted until it is gone.
                    if left := [path for path in own_leftovers if path.exists()]:
                        await self._publish_readable(folder, left)
                elif folder.is_dir():
                    await self._adopt(folder)
            except OSError as error:
                logger.error("spool cannot be adopted", extra={"folder": folder.name, "cause": str(error)})
                failed = failed or error
        if failed is not None:
            raise failed

    async def _adopt(self, folder: Path) -> None:
        lock = FolderLock(folder)
        if not lock.take():
            return
        try:
            if await self._publish_readable(folder, segments(folder)):
                lock.remove_folder()
                logger.info("spool adopted", extra={"folder": folder.name})
        finally:
            lock.release()

    async def _publish_readable(self, folder: Path, paths: list[Path]) -> bool:
        try:
            await self._publish(paths)
        except ValueError as error:
            # Whole by its checksum and yet none of ours: perhaps a later release wrote it. It stays, and is seen.
            self._metrics.unreadable_spools += 1
            logger.error("spool cannot be read", extra={"folder": folder.name, "cause": str(error)[:200]})
            return False
        return True

    async def _publish(self, paths: list[Path]) -> None:
        """All or nothing is removed: what was sent before a failure is sent again, under the same ids."""
        batch: list[tuple[str, bytes]] = []
        count = lost = 0
        damaged: list[Path] = []
        # Their gateway may have died between a write and its sync. An end that is published and then lost with the
        # machine's power would be contradicted by the next adopter.
        await asyncio.to_thread(sync, paths)
        # A record that cannot be read keeps the spool where it is: what had left before it would leave at every look.
        for path in paths:
            await asyncio.to_thread(check_records, path)
        for left in left_behind(paths, damaged):
            batch.append((left.account, left.event))
            lost += left.lost
            if len(batch) >= self._batch_max:
                await self._producer.publish_batch(topics.USAGE, batch)
                count += len(batch)
                batch = []
        await self._producer.publish_batch(topics.USAGE, batch)
        self._metrics.adopted_events += count + len(batch)
        self._metrics.lost_requests += lost
        if lost:
            logger.warning("requests were lost with the gateway that ran them", extra={"requests": lost})
        for path in paths:
            if path in damaged:
                self._keep_aside(path)
            else:
                path.unlink()

    def _keep_aside(self, path: Path) -> None:
        """Out of every reader's way and beside the spools, where it is counted until a person takes it away."""
        name = f"{path.parent.name}-{path.stem}"
        kept, number = self._root / f"{name}{DAMAGED_SUFFIX}", 1
        while kept.exists():  # a name that is used again numbers its segments anew
            number += 1
            kept = self._root / f"{name}-{number}{DAMAGED_SUFFIX}"
        path.rename(kept)
        logger.error("spool is damaged", extra={"folder": path.parent.name, "file": path.name, "kept_as": kept.name})
