"""The live spool: what finishes in one tick of the loop is written at once, and only then released.

`append_intent` and `append_end` take what must be on disk and a callback to run once it is. A write that fails or falls
short releases nothing: the file is cut back to its last whole record and the same bytes are tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from services.gateway import spool_files
from services.gateway.spool_files import Intent

logger = logging.getLogger(__name__)

END_BYTES_MAX = 4096
"""Reserved for a request's end when it is admitted; events are bounded well below it."""
INTENT_BYTES_MAX = 1024
RETRY_S = 0.25

Release = Callable[[], None]


@dataclass(slots=True)
class Segment:
    """One file. Up to `synced` it survives what the spool promises to survive, and only that is published; `published`
    is how far its ends have been acknowledged by Kafka."""

    number: int
    path: Path
    handle: int
    size: int = 0
    synced: int = 0
    published: int = 0
    torn: bool = False


class Spool:
    """One gateway's spool; `folder` is locked by the caller. Sizes are in bytes."""

    def __init__(
        self,
        folder: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        bytes_max: int,
        segment_bytes: int,
        sync: Literal["write", "fdatasync"],
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._folder = folder
        self._loop = loop
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._write = write
        self._pending: list[bytes] = []
        self._releases: list[Release] = []
        self._ended: list[str] = []
        self._scheduled = False
        self._syncing = False
        self._reserved = 0
        self._bytes = 0
        self._open_intents: dict[str, tuple[int, bytes]] = {}
        self.segments: deque[Segment] = deque()
        self.written = asyncio.Event()
        self.healthy = True
        self.write_failures = 0
        existing = spool_files.segments(folder)
        self._open_segment(int(existing[-1].stem) + 1 if existing else 1)

    @property
    def settled(self) -> bool:
        """Whether all that was appended is on disk and released."""
        return not self._pending and not self._syncing

    @property
    def bytes_used(self) -> int:
        """On disk and reserved."""
        return self._bytes + self._reserved

    @property
    def bytes_unpublished(self) -> int:
        return sum(segment.size - segment.published for segment in self.segments)

    def reserve(self, *, intent: bool = True) -> bool:
        """Room for a request's records, or False: then it must be refused."""
        size = END_BYTES_MAX + (INTENT_BYTES_MAX if intent else 0)
        if not self.healthy or self._bytes + self._reserved + size > self._bytes_max:
            return False
        self._reserved += END_BYTES_MAX
        return True

    def append_intent(self, intent: Intent, release: Release) -> None:
        record = spool_files.intent_record(intent)
        self._open_intents[intent.request_id] = (self.segments[-1].number, record)
        self._append(record, release)

    def append_end(self, request_id: str, account: str, event: bytes, release: Release) -> None:
        """Every `reserve` is followed by exactly one of these."""
        self._reserved -= END_BYTES_MAX
        self._ended.append(request_id)
        self._append(spool_files.end_record(request_id, account, event), release)

    def _append(self, record: bytes, release: Release) -> None:
        self._pending.append(record)
        self._releases.append(release)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._syncing or not self._pending:
            return
        data = b"".join(self._pending)
        segment = self._segment_for_next()
        if segment is None or not self._written_whole(segment, data):
            self.healthy = False
            self._scheduled = True
            self._loop.call_later(RETRY_S, self._flush)
            return
        self.healthy = True
        segment.size += len(data)
        self._bytes += len(data)
        self._pending = []
        releases, self._releases = self._releases, []
        ended, self._ended = self._ended, []
        if self._sync == "fdatasync":
            self._syncing = True
            future = self._loop.run_in_executor(None, os.fdatasync, segment.handle)
            future.add_done_callback(lambda done: self._synced(done, segment, ended, releases))
        else:
            self._safe(segment, ended, releases)

    def _segment_for_next(self) -> Segment | None:
        segment = self.segments[-1]
        if segment.size < self._segment_bytes and not segment.torn:
            return segment
        try:
            return self._open_segment(segment.number + 1)
        except OSError as error:
            self.write_failures += 1
            logger.error("spool segment cannot be opened", extra={"cause": error.strerror})
            return None

    def _written_whole(self, segment: Segment, data: bytes) -> bool:
        try:
            count = self._write(segment.handle, data)
        except OSError as error:
            count = 0
            logger.error("spool write failed", extra={"cause": error.strerror})
        if count == len(data):
            return True
        if count:
            logger.error("spool write fell short", extra={"written": count, "bytes": len(data)})
        self.write_failures += 1
        try:
            os.ftruncate(segment.handle, segment.size)
        except OSError:
            # The checksum stops a reader at what was written in part, so what comes next goes to a new file.
            segment.torn = True
        return False

    def _synced(self, done: asyncio.Future[None], segment: Segment, ended: list[str], releases: list[Release]) -> None:
        self._syncing = False
        error = done.exception()
        if error is not None:
            _end_unsynced(error)
        self._safe(segment, ended, releases)
        if self._pending:
            self._flush()

    def _safe(self, segment: Segment, ended: list[str], releases: list[Release]) -> None:
        """All of `segment` is on disk: only now may its ends be published and their intents go."""
        segment.synced = segment.size
        for request_id in ended:
            self._open_intents.pop(request_id, None)
        self.written.set()
        for release in releases:
            try:
                release()
            except Exception:
                # One connection's failure must not hold back the answers of the others.
                logger.exception("release after a spool write failed")

    def _open_segment(self, number: int) -> Segment:
        path = spool_files.segment_path(self._folder, number)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if self._sync == "fdatasync":
                self._sync_folder()
        except OSError:
            # A file that stayed would stand in the way of every other try.
            os.close(handle)
            path.unlink()
            raise
        segment = Segment(number, path, handle)
        self.segments.append(segment)
        return segment

    def _sync_folder(self) -> None:
        """A segment's name must survive a power loss as well as its bytes."""
        directory = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    # -- the publisher's side ----------------------------------------------------------------------------------------

    def unpublished(self, bytes_max: int) -> tuple[Segment, bytes] | None:
        """The oldest segment with unpublished bytes and up to `bytes_max` of them; None where there is none.

        Never what is not synced yet: after a loss of power an adopter would contradict the event.
        """
        for segment in self.segments:
            if segment.published < segment.synced:
                count = min(bytes_max, segment.synced - segment.published)
                return segment, os.pread(segment.handle, count, segment.published)
        return None

    def mark_published(self, segment: Segment, published: int) -> None:
        """Kafka has all ends of `segment` up to `published`; segments that hold nothing more are removed."""
        segment.published = published
        while len(self.segments) > 1 and self.segments[0].published >= self.segments[0].size:
            first = self.segments[0]
            carried = [
                (request_id, record)
                for request_id, (number, record) in self._open_intents.items()
                if number <= first.number
            ]
            if carried and not self._carry(carried):
                return
            # Oldest first, always: an intent must never outlive its end, or an adopter would call it lost.
            self.segments.popleft()
            self._bytes -= first.size
            os.close(first.handle)
            first.path.unlink()

    def _carry(self, carried: list[tuple[str, bytes]]) -> bool:
        """Write running requests' intents again to the newest segment, so that one long stream holds no disk."""
        newest = self.segments[-1]
        data = b"".join(record for _, record in carried)
        if self._syncing or newest.torn or not self._written_whole(newest, data):
            return False
        if self._sync == "fdatasync":
            try:
                os.fdatasync(newest.handle)  # rare, and small: at most once a segment
            except OSError as error:
                _end_unsynced(error)
        newest.size += len(data)
        newest.synced = newest.size
        self._bytes += len(data)
        for request_id, record in carried:
            self._open_intents[request_id] = (newest.number, record)
        return True

    def close(self) -> bool:
        """Whether nothing is left: then the segments are removed. Else they stay for whoever adopts them."""
        self._flush()
        empty = self.settled and not self._open_intents and not self.bytes_unpublished
        for segment in self.segments:
            os.close(segment.handle)
            if empty:
                segment.path.unlink()
        self.segments.clear()
        return empty


def _end_unsynced(error: BaseException) -> NoReturn:
    """After a failed fdatasync the kernel may have dropped the pages: nothing more can be promised."""
    logger.critical("spool cannot be synced; the process ends", extra={"cause": str(error)})
    os._exit(1)
