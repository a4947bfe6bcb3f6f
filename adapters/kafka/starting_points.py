"""Where a partition that was just assigned goes on, and where only an operator may say so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition

from adapters.errors import StopOnPurpose
from domain.stops import not_accepted
from schemas.stops import Gap, Reread, StopNoted


@dataclass(frozen=True)
class Question:
    """A partition that may go on at `start` only once `gap` and `reread`, where given, have been accepted."""

    partition: TopicPartition
    what: str
    start: int
    gap: Gap | None = None
    reread: Reread | None = None


def reread_of(partition: TopicPartition) -> Reread:
    return Reread(partition.topic, partition.partition)


def question_of(
    partition: TopicPartition, committed: int | None, begin: int, end: int, already_written: bool
) -> Question | None:
    """None where the partition simply goes on: behind its committed offset, or at 0 of a log that was never read."""
    lost = Gap(partition.topic, partition.partition, committed or 0, begin - 1)
    if committed is None:
        if begin > 0:
            return Question(partition, f"no offset is committed and the log starts at {begin}", begin, gap=lost)
        if already_written:
            what = "no offset is committed, yet charges or rows from it were written before"
            return Question(partition, what, 0, reread=reread_of(partition))
        return None
    if begin <= committed <= end:
        return None
    what = f"offset {committed} is committed, the log starts at {begin} and ends at {end}"
    if committed < begin:
        return Question(partition, what, begin, gap=lost)
    # The log was made anew or has lost its end: what it holds now may never have been read.
    gap = Gap(partition.topic, partition.partition, 0, begin - 1) if begin else None
    return Question(partition, what, begin, gap=gap, reread=reread_of(partition))


def check_accepted(
    group: str, questions: Sequence[Question], noted: Iterable[StopNoted], allowed: Collection[Reread]
) -> None:
    """Raise StopOnPurpose, which names all that nobody has accepted yet."""
    missing = set(not_accepted([question.gap for question in questions if question.gap], noted))
    again = {question.reread for question in questions if question.reread} - set(allowed)
    unanswered = [question for question in questions if question.gap in missing or question.reread in again]
    if unanswered:
        texts = (f"{one.partition.topic} partition {one.partition.partition}: {one.what}" for one in unanswered)
        reread = [one.reread for one in unanswered if one.reread in again and one.reread is not None]
        raise StopOnPurpose(f"{group}: {'; '.join(texts)}", gaps=missing, reread=reread)
