"""The judge of the soak: a leak is seen through noise, a step that happens once and an outlier are none."""

from __future__ import annotations

import random

import pytest

from tests.e2e.flatness import Bound, Sample, chart, slope, verdict

BOUND = Bound(share=0.05, least=8)
MIB_AT_REST = 150.0


def samples(*, leak_per_minute: float = 0.0, step: float = 0.0, outliers: int = 0) -> list[Sample]:
    """30 minutes, one every 10 seconds, with noise of a few per cent."""
    dice = random.Random(3)
    made = []
    for number in range(180):
        warm_up = 40.0 * (1 - 0.9**number)
        value = MIB_AT_REST + warm_up + leak_per_minute * number / 6 + dice.gauss(0, 3)
        made.append((number * 10.0, value + (step if number > 130 else 0.0)))
    for number in dice.sample(range(60, 180), outliers):
        made[number] = (made[number][0], 900.0)
    return made


def test_what_warms_up_and_stays_is_flat() -> None:
    assert verdict(samples(), BOUND).flat


def test_a_slow_leak_is_none_the_less_a_leak() -> None:
    assert not verdict(samples(leak_per_minute=1.5), BOUND).flat


def test_a_few_wild_values_and_a_small_step_are_no_leak() -> None:
    assert verdict(samples(outliers=12), BOUND).flat
    assert verdict(samples(step=6), BOUND).flat


def test_a_slope_is_per_second() -> None:
    straight = [(at, 1.0 + 2 * at) for at in (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)]
    assert slope([*straight, (60.0, -500.0)]) == pytest.approx(2.0)


def test_too_few_samples_judge_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        verdict(samples()[:5], BOUND)


def test_a_chart_is_one_line() -> None:
    assert len(chart(samples())) == 60
    assert chart([(0.0, 1.0), (1.0, 1.0)]).strip() == ""
