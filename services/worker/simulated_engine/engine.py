"""Runs orders: room for so many at once, a bounded queue, ids that an abort finds, counters and the ledger."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from dataclasses import dataclass

from services.worker.simulated_engine.continuation import Continuation
from services.worker.simulated_engine.counters import Counters
from services.worker.simulated_engine.ledger import Ledger
from services.worker.simulated_engine.options import Options
from services.worker.simulated_engine.orders import Order
from services.worker.simulated_engine.prefix_cache import PrefixCache
from services.worker.simulated_engine.refusals import Refused


@dataclass(slots=True)
class Sequence:
    """One sequence of a run: its id, its words, and what its prompt cost."""

    id: str
    words: Continuation
    prompt_tokens: int
    cached_tokens: int


@dataclass(slots=True)
class Run:
    """One order while it runs; sequences stand prompt by prompt, `n` each."""

    order: Order
    sequences: list[Sequence]
    created: int
    started: asyncio.Future[None]
    ended: str | None = None
    places: int = 0
    _sleep: asyncio.Future[None] | None = None

    async def wait_for_places(self) -> None:
        """Returns when the run may begin, or has ended before."""
        if not self.started.done():
            await asyncio.wait([self.started])

    async def sleep(self, seconds: float) -> None:
        """Sleeps, unless an abort or the client's leaving wakes it."""
        loop = asyncio.get_running_loop()
        self._sleep = loop.create_future()
        timer = loop.call_later(max(0.0, seconds), self.wake)
        try:
            await self._sleep
        finally:
            timer.cancel()
            self._sleep = None

    def wake(self) -> None:
        """Ends a sleep early."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def how_it_ended(self) -> str:
        """The ledger's word for a run that was answered to its end."""
        aborted = any(each.words.finish_reason == "abort" for each in self.sequences)
        return "aborted" if aborted else "complete"


class QueueFull(Exception):
    """More requests wait than the engine was started to hold."""


class Engine:
    """The running state of one engine process. All methods run on the event loop's thread."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.counters = Counters()
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.tokens_per_second = options.tokens_per_second
        self._cache = PrefixCache(options.cache_tokens)
        self._ledger = Ledger(options.ledger)
        self._by_id: dict[str, tuple[Run, Sequence]] = {}
        self._free_places = options.max_running_requests
        self._waiting: deque[Run] = deque()
        self._runs = 0

    @property
    def running(self) -> int:
        """Sequences that hold a place."""
        return self.options.max_running_requests - self._free_places

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    def begin(self, order: Order) -> Run:
        """Takes an order in. Raises `Refused` for an id that runs already, `QueueFull` past the queue's bound."""
        for sequence_id in order.rids or ():
            if sequence_id in self._by_id:
                raise Refused(f"Duplicate request ID detected: {sequence_id}")
        count = len(order.prompts) * order.n
        ids = order.rids or [uuid.uuid4().hex for _ in range(count)]
        run = Run(order, [], int(time.time()), asyncio.get_running_loop().create_future())
        run.places = min(count, self.options.max_running_requests)
        limit_queue = self.options.max_queued_requests
        must_wait = bool(self._waiting) or run.places > self._free_places
        if must_wait and limit_queue is not None and len(self._waiting) >= limit_queue:
            raise QueueFull
        for index in range(count):
            prompt = order.prompts[index // order.n]
            room = self.options.context_length - len(prompt)
            words = Continuation(
                prompt,
                order.greedy,
                room if order.max_new_tokens is None else order.max_new_tokens,
                order.min_new_tokens,
                order.ignore_eos,
                order.stop,
                order.trim_stop,
            )
            run.sequences.append(Sequence(ids[index], words, 0, 0))
        for sequence in run.sequences:
            self._by_id[sequence.id] = (run, sequence)
        self._runs += 1
        self.idle.clear()
        if must_wait:
            self._waiting.append(run)
        else:
            self._start(run)
        return run

    def abort(self, sequence_id: str) -> None:
        """Ends the sequence of that id; an id that nothing has is ignored, as SGLang does."""
        found = self._by_id.get(sequence_id)
        if found is None or found[1].words.finish_reason is not None:
            return
        run, sequence = found
        sequence.words.abort()
        self.counters.aborted += 1
        run.wake()
        if not run.started.done() and all(each.words.finish_reason for each in run.sequences):
            # Never began: it ends with 200 and no tokens at all, the prompt's included.
            self._waiting.remove(run)
            run.places = 0
            run.started.set_result(None)

    def abort_all(self) -> None:
        """Ends every sequence."""
        for sequence_id in list(self._by_id):
            self.abort(sequence_id)

    def finish(self, run: Run, ended: str) -> None:
        """Gives up a run's places and writes down what it came to; only the first call for a run counts."""
        if run.ended is not None:
            return
        run.ended = ended
        if ended == "disconnected":
            self.counters.aborted += len(run.sequences)
        self._runs -= 1
        if self._runs == 0:
            self.idle.set()
        for sequence in run.sequences:
            sequence.words.abort()
            self._by_id.pop(sequence.id, None)
        if run.started.done():
            self._free_places += run.places
        else:
            self._waiting.remove(run)
            run.started.cancel()
        self._count(run)
        self._start_waiting()

    def note_report(self, run: Run) -> None:
        """Has the ledger hold what the run's stream is about to report, so that a kill does not take it along."""
        order = run.order
        if order.rid is not None and order.continuous_usage:
            self._ledger.report(order.rid, prompts=len(order.prompts), n=order.n, **_tokens(run))

    def close(self) -> None:
        """Closes the ledger."""
        self._ledger.close()

    def _start(self, run: Run) -> None:
        self._free_places -= run.places
        order = run.order
        counts = self.counters.streamed if order.stream else self.counters.unstreamed
        for index, sequence in enumerate(run.sequences):
            prompt = order.prompts[index // order.n]
            if index % order.n == 0:
                cached = self._cache.match(order.salt, prompt)
                if order.n > 1:
                    # With several samples SGLang computes the prompt once, ahead, as a request that only /metrics
                    # shows; every sample then finds all of it but the last token in the cache.
                    counts.requests += 1
                    counts.prompt += len(prompt)
                    counts.cached += cached
                    cached = len(prompt) - 1
            sequence.prompt_tokens, sequence.cached_tokens = len(prompt), cached
        run.started.set_result(None)

    def _start_waiting(self) -> None:
        while self._waiting and self._waiting[0].places <= self._free_places:
            self._start(self._waiting.popleft())

    def _count(self, run: Run) -> None:
        order = run.order
        counts = self.counters.streamed if order.stream else self.counters.unstreamed
        for index, sequence in enumerate(run.sequences):
            counts.requests += 1
            counts.prompt += sequence.prompt_tokens
            counts.generation += sequence.words.tokens
            counts.cached += sequence.cached_tokens
            if sequence.words.parts and index % order.n == 0:
                self._cache.extend(order.salt, order.prompts[index // order.n] + sequence.words.parts)
        self._ledger.record(
            rid=order.rid,
            id=run.sequences[0].id,
            model=order.model,
            stream=int(order.stream),
            prompts=len(order.prompts),
            n=order.n,
            **_tokens(run),
            finish_reasons=[each.words.finish_reason for each in run.sequences],
            ended=run.ended,
        )


def _tokens(run: Run) -> dict[str, int]:
    firsts = run.sequences[:: run.order.n]
    return {
        "prompt_tokens": sum(each.prompt_tokens for each in firsts),
        "cached_tokens": sum(each.cached_tokens for each in firsts),
        "completion_tokens": sum(each.words.tokens for each in run.sequences),
    }
