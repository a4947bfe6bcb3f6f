"""Reads and writes `hydra.stops`: why a process stopped on purpose, and what an operator has accepted since."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.clock import Clock, SystemClock
from adapters.errors import StopOnPurpose, Unavailable
from adapters.kafka.producer import EventProducer
from adapters.kafka.stopping import stop_consumer
from domain.stops import TO_GO_ON, command_to_go_on, unanswered
from schemas import codec
from schemas.stops import Gap, Reread, StopNoted
from schemas.topics import STOPS

logger = logging.getLogger(__name__)

TIMEOUT_S = 20.0
REASON_LENGTH_MAX = 4_000


class Stops:
    """The entries of one process, which may run more than once: they are shared."""

    def __init__(self, bootstrap: str, process: str, clock: Clock | None = None) -> None:
        self.process = process
        self._bootstrap = bootstrap
        self._clock = clock or SystemClock()

    async def noted(self) -> list[StopNoted]:
        """Oldest first, each once: one that comes again, behind later ones, says nothing new. Raises Unavailable."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        partition = TopicPartition(STOPS.name, 0)
        found: list[StopNoted] = []
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await consumer.start()
                consumer.assign([partition])
                end = (await consumer.end_offsets([partition]))[partition]
                await consumer.seek_to_beginning(partition)
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        found += [stop for record in records if (stop := _decoded(record.value)) is not None]
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"{STOPS.name} cannot be read: {type(error).__name__}") from error
        finally:
            await stop_consumer(consumer)
        return [stop for stop in dict.fromkeys(found) if stop.process == self.process]

    async def note_stopped(self, stop: StopOnPurpose) -> None:
        """Once for as long as nothing changes, however often the process is started. Raises Unavailable."""
        last = unanswered(await self.noted())
        if last is None or (last.gaps, last.reread, last.reason) != (stop.gaps, stop.reread, _cut(stop)):
            await self._note(StopNoted(
                process=self.process, what="stopped", at=self._clock.now(), reason=_cut(stop),
                gaps=stop.gaps, reread=stop.reread,
            ))  # fmt: skip

    async def note_accepted(self, stop: StopNoted, reason: str, by: str) -> None:
        """An operator has named what `stop` is about. Raises Unavailable."""
        await self._note(StopNoted(
            process=self.process, what="accepted", at=self._clock.now(), reason=reason[:REASON_LENGTH_MAX],
            gaps=stop.gaps, reread=stop.reread, by=by,
        ))  # fmt: skip

    async def note_went_on(self, gaps: Sequence[Gap], reread: Sequence[Reread]) -> None:
        """The process has gone on past these. Raises Unavailable."""
        await self._note(StopNoted(
            process=self.process, what="went_on", at=self._clock.now(), reason="as accepted",
            gaps=tuple(gaps), reread=tuple(reread),
        ))  # fmt: skip

    async def _note(self, stop: StopNoted) -> None:
        event = codec.event(
            stop,
            id=f"{stop.process}/{stop.what}/{stop.at.isoformat()}",
            source=f"/hydra/{'cli' if stop.what == 'accepted' else stop.process}",
            subject=stop.process,
            time=stop.at,
        )
        async with EventProducer(self._bootstrap, timeout_s=TIMEOUT_S) as producer:
            await producer.publish(STOPS, stop.process, codec.encode(event))


def stopped(bootstrap: str, process: str, stop: StopOnPurpose) -> str:
    """Note why this process ends, if Kafka lets it, and return its last words, with what to type to go on."""
    try:
        asyncio.run(asyncio.wait_for(Stops(bootstrap, process).note_stopped(stop), 2 * TIMEOUT_S))
    except (Unavailable, TimeoutError) as error:
        logger.warning("the stop is not noted on %s", STOPS.name, extra={"cause": str(error) or "timeout"})
    return last_words(process, stop)


def last_words(process: str, stop: StopOnPurpose) -> str:
    """Why the process ends and what to type to go on, in one line."""
    return f"{stop}{TO_GO_ON}{command_to_go_on(process, stop.gaps, stop.reread)}"


def _cut(stop: StopOnPurpose) -> str:
    return str(stop)[:REASON_LENGTH_MAX]


def _decoded(value: bytes | None) -> StopNoted | None:
    try:
        return codec.decode(value or b"", StopNoted).data
    except msgspec.DecodeError:
        logger.error("record of %s ignored", STOPS.name)
        return None
