"""What was sampled of a process while it worked, and whether it stayed flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

Sample = tuple[float, float]
"""Seconds since the beginning, and the value."""

SAMPLES_MIN = 9
PAIRS_POINTS_MAX = 200


@dataclass(frozen=True)
class Bound:
    """By how much the last third may lie above the middle one: `share` of it or `least`, whichever is more."""

    share: float
    least: float

    def allowed(self, level: float) -> float:
        return max(self.share * level, self.least)


@dataclass(frozen=True)
class Verdict:
    """`growth` is the median of the last third less that of the middle one; `trend` is what the whole slope of both
    thirds makes in the same time. Both must pass the bound for a leak: a step that happens once makes no trend, and
    noise makes no growth."""

    middle: float
    last: float
    trend: float
    allowed: float

    @property
    def growth(self) -> float:
        return self.last - self.middle

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed or self.trend <= self.allowed / 2


def verdict(samples: Sequence[Sample], bound: Bound) -> Verdict:
    """The first third is left out: caches, arenas and the first parts of tables fill then.

    Raises ValueError where there are too few samples to say anything.
    """
    if len(samples) < SAMPLES_MIN:
        raise ValueError(f"{len(samples)} samples are too few, {SAMPLES_MIN} are needed")
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    level = statistics.median(value for _, value in middle)
    seconds = statistics.median(at for at, _ in last) - statistics.median(at for at, _ in middle)
    trend = slope([*middle, *last]) * seconds
    return Verdict(level, statistics.median(value for _, value in last), trend, bound.allowed(level))


def slope(samples: Sequence[Sample]) -> float:
    """The median of the slopes between all pairs (Theil and Sen), per second: a few wild values do not move it."""
    thinned = samples[:: max(1, len(samples) // PAIRS_POINTS_MAX)]
    return statistics.median(
        (b - a) / (at_b - at_a) for (at_a, a), (at_b, b) in combinations(thinned, 2) if at_b > at_a
    )


def chart(samples: Sequence[Sample], width: int = 60) -> str:
    """One line, from the least to the greatest value."""
    levels = " .:-=+*#%@"
    step = max(1, len(samples) // width)
    values = [statistics.median(value for _, value in samples[at : at + step]) for at in range(0, len(samples), step)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(levels[round((value - low) / span * (len(levels) - 1))] for value in values)
