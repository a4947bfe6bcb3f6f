"""What Kafka's stamps prove of this process's wall clock, and what its monotonic clock proves in between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from adapters.clock_drift import ClockDrift

KAFKA_BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Clocks:
    """Ours, wrong by `wrong_s`, and Kafka's, which is right; both go on by `pass_s`."""

    elapsed_s: float = 0.0
    wrong_s: float = 0.0

    def now(self) -> datetime:
        return KAFKA_BEGAN + timedelta(seconds=self.elapsed_s + self.wrong_s)

    def monotonic(self) -> float:
        return 1_000.0 + self.elapsed_s

    def pass_s(self, seconds: float) -> None:
        self.elapsed_s += seconds


@dataclass
class Stamped:
    timestamp: int
    timestamp_type: int = 1


def acknowledge(drift: ClockDrift, clocks: Clocks, way_s: float, back_s: float, stamp_type: int = 1) -> None:
    """A message takes `way_s` to Kafka, its answer `back_s`."""
    began = drift.begin()
    clocks.pass_s(way_s)
    stamp = Stamped(round((KAFKA_BEGAN.timestamp() + clocks.elapsed_s) * 1000), stamp_type)
    clocks.pass_s(back_s)
    drift.acknowledged(began, stamp)


@pytest.mark.parametrize("wrong_s", [0.0, 120.0, -300.0, 1.5])
def test_a_clock_that_is_wrong_from_the_start_is_measured_within_the_answers_time(wrong_s: float) -> None:
    clocks = Clocks(wrong_s=wrong_s)
    drift = ClockDrift(clocks)
    acknowledge(drift, clocks, 0.02, 0.03)
    assert drift.seconds() == pytest.approx(wrong_s, abs=0.051)
    assert bool(drift.warning()) == (abs(wrong_s) > 1)


def test_a_slow_answer_is_no_drift_and_undoes_none() -> None:
    clocks = Clocks(wrong_s=0.0)
    drift = ClockDrift(clocks)
    acknowledge(drift, clocks, 20.0, 0.0)
    acknowledge(drift, clocks, 0.0, 20.0)
    assert drift.seconds() == 0
    clocks.wrong_s = 60.0
    acknowledge(drift, clocks, 5.0, 5.0)
    assert drift.seconds() == pytest.approx(60.0)


def test_a_jump_shows_at_once_and_its_undoing_too_without_a_word_of_kafka() -> None:
    clocks = Clocks()
    drift = ClockDrift(clocks)
    clocks.pass_s(3_600)
    assert drift.warning() == {}
    clocks.wrong_s = -180.0
    assert drift.seconds() == pytest.approx(-180.0)
    assert drift.warning() == {"warning": "the wall clock is 180.0 s behind what it should be: set it right"}
    clocks.wrong_s = 0.0
    assert drift.warning() == {}


def test_a_clock_set_right_after_a_wrong_start_is_right_once_kafka_says_so() -> None:
    clocks = Clocks(wrong_s=500.0)
    drift = ClockDrift(clocks)
    clocks.wrong_s = 0.0
    assert drift.seconds() == pytest.approx(-500.0)  # all that is known yet
    acknowledge(drift, clocks, 0.01, 0.01)
    assert drift.warning() == {}


def test_a_stamp_of_the_senders_own_clock_proves_nothing() -> None:
    clocks = Clocks(wrong_s=500.0)
    drift = ClockDrift(clocks)
    acknowledge(drift, clocks, 0.01, 0.01, stamp_type=0)
    assert drift.seconds() == 0
