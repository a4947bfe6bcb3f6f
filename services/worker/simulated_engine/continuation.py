"""The words of one answer: meaningless, the same again at temperature 0, different each time above it."""

from __future__ import annotations

import secrets
import zlib

from services.worker.simulated_engine.tokens import END_OF_TURN

_SYLLABLES = ("ba", "co", "di", "fa", "ge", "hu", "ki", "lo", "ma", "ne", "po", "ra", "si", "tu", "ve", "zo")
# Every word is one token of the tokenizer, so an answer that comes back in a next prompt is found in the prefix cache.
WORDS = tuple(f" {first}{second}" for first in _SYLLABLES for second in _SYLLABLES)
_MASK = (1 << 64) - 1


class Continuation:
    """Draws tokens one by one and knows when the sequence ends.

    `finish_reason` is None while it runs, then `stop`, `length` or `abort`; `matched_stop` as SGLang reports it."""

    __slots__ = (
        "_end_at",
        "_limit",
        "_state",
        "_stop",
        "_tail",
        "_trim_stop",
        "finish_reason",
        "matched_stop",
        "parts",
        "tokens",
    )

    def __init__(
        self,
        prompt: list[str],
        greedy: bool,
        limit: int,
        min_tokens: int,
        ignore_eos: bool,
        stop: list[str],
        trim_stop: bool,
    ) -> None:
        seed = zlib.crc32("".join(prompt).encode("utf-8", "surrogatepass")) if greedy else secrets.randbits(62)
        self._state = (seed * 2862933555777941757 + 3037000493) & _MASK
        self._limit = limit
        self._end_at = limit + 1 if ignore_eos else max(min_tokens + 1, 16 + (self._state >> 40) % 240)
        self._stop = stop
        self._trim_stop = trim_stop
        self._tail = ""
        self.parts: list[str] = []
        self.tokens = 0
        self.finish_reason: str | None = None
        self.matched_stop: str | int | None = None
        if limit == 0:
            self.finish_reason = "length"

    def step(self) -> str:
        """Draws one token and returns the text that it adds, which is empty where it ends the turn."""
        self.tokens += 1
        if self.tokens == self._end_at:
            self.finish_reason, self.matched_stop = "stop", END_OF_TURN
            return ""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        word = WORDS[(self._state >> 33) % len(WORDS)]
        if self._stop:
            word = self._until_stop(word)
        if self.finish_reason is None and self.tokens >= self._limit:
            self.finish_reason = "length"
        self.parts.append(word)
        return word

    def abort(self) -> None:
        """Ends the sequence as an abort does: what was drawn stays and counts."""
        if self.finish_reason is None:
            self.finish_reason = "abort"

    def _until_stop(self, word: str) -> str:
        """The part of a word before a stop string that it completes. What left earlier stays sent, as in SGLang."""
        seen = self._tail + word
        for stop in self._stop:
            at = seen.find(stop)
            if at >= 0:
                self.finish_reason, self.matched_stop = "stop", stop
                end = at + (0 if self._trim_stop else len(stop))
                kept = max(0, end - len(self._tail))
                if end < len(self._tail) and self._trim_stop:
                    self._take_back(len(self._tail) - end)
                return word[:kept]
        self._tail = seen[-max(map(len, self._stop)) :]
        return word

    def _take_back(self, characters: int) -> None:
        """Cuts the beginning of a stop string off the whole text; a stream has sent it already."""
        text = "".join(self.parts)
        self.parts = [text[:-characters]]
