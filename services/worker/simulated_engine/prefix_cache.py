"""Which prompt tokens the engine has seen before: exact to the token, bounded, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict


class PrefixCache:
    """Remembers prefixes of token sequences by a running hash, at most `capacity` tokens of them.

    As in SGLang, the last token of a prompt is never taken from the cache: something must be left to compute."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[int, None] = OrderedDict()

    def match(self, salt: str, pieces: list[str]) -> int:
        """The number of leading tokens of the prompt that are cached; the prompt is cached from now on."""
        state = hash(salt)
        states = [state := hash((state, piece)) for piece in pieces]
        seen = self._seen
        cached = 0
        for value in states:
            if value not in seen:
                break
            cached += 1
        self._remember(states)
        return max(0, min(cached, len(pieces) - 1))

    def extend(self, salt: str, pieces: list[str]) -> None:
        """Caches a prompt with its answer, which a next turn of the same talk begins with."""
        state = hash(salt)
        self._remember([state := hash((state, piece)) for piece in pieces])

    def _remember(self, states: list[int]) -> None:
        seen = self._seen
        # Deepest first: when room is short the ends of sequences go before their beginnings.
        for value in reversed(states):
            seen[value] = None
            seen.move_to_end(value)
        while len(seen) > self._capacity:
            seen.popitem(last=False)
