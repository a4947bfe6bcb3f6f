"""When silence may be believed: only while Kafka answers and all was read, by the monotonic clock."""

from datetime import UTC, datetime

from services.lifecycle.liveness import ANSWER_GAP_MAX_S, FORGET_AFTER_S, Liveness


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at


def looking(clock: SetClock, liveness: Liveness, seconds: float) -> None:
    """Kafka is asked each second and everything it had is read."""
    for _ in range(int(seconds)):
        clock.at += 1
        liveness.read_to_the_end(clock.at)


def started() -> tuple[SetClock, Liveness]:
    clock = SetClock()
    return clock, Liveness(clock)


def test_silence_is_counted_from_the_last_heartbeat_read() -> None:
    clock, liveness = started()
    looking(clock, liveness, 10)
    liveness.heard("i-1")
    looking(clock, liveness, 30)
    assert liveness.silent_for_s("i-1") == 30


def test_before_kafka_was_read_to_its_end_nothing_is_silent() -> None:
    clock, liveness = started()
    clock.at += 500
    assert liveness.silent_for_s("i-1") == 0


def test_after_a_start_silence_is_counted_from_the_first_answer() -> None:
    clock, liveness = started()
    liveness.expect("i-1")
    looking(clock, liveness, 20)
    assert liveness.silent_for_s("i-1") == 19


def test_kafkas_absence_counts_for_nothing_and_starts_all_silences_anew() -> None:
    clock, liveness = started()
    looking(clock, liveness, 10)
    liveness.heard("i-1")
    liveness.kafka_is_away()
    clock.at += 300
    assert liveness.silent_for_s("i-1") == 0
    looking(clock, liveness, 10)
    assert liveness.silent_for_s("i-1") == 9


def test_a_frozen_process_counts_its_own_sleep_for_nothing() -> None:
    clock, liveness = started()
    looking(clock, liveness, 10)
    liveness.heard("i-1")
    looking(clock, liveness, 20)
    clock.at += 300
    assert liveness.silent_for_s("i-1") == 0, "the last look is old: nothing is certain"
    liveness.read_to_the_end(clock.at)
    assert liveness.silent_for_s("i-1") == 0
    looking(clock, liveness, 7)
    assert liveness.silent_for_s("i-1") == 7


def test_what_was_read_late_is_not_believed_to_the_present() -> None:
    clock, liveness = started()
    looking(clock, liveness, 10)
    liveness.heard("i-1")
    asked_at = clock.at
    clock.at += ANSWER_GAP_MAX_S - 1
    liveness.read_to_the_end(asked_at)
    assert liveness.silent_for_s("i-1") == 0, "what came after the question may still be unread"


def test_what_was_just_placed_is_expected_from_now_on() -> None:
    clock, liveness = started()
    looking(clock, liveness, 100)
    liveness.expect("i-new")
    looking(clock, liveness, 5)
    liveness.expect("i-new")
    assert liveness.silent_for_s("i-new") == 5


def test_what_another_has_placed_a_moment_ago_is_not_silent() -> None:
    clock, liveness = started()
    looking(clock, liveness, 100)
    assert liveness.silent_for_s("i-of-another") == 0
    liveness.expect("i-of-another")
    looking(clock, liveness, 5)
    assert liveness.silent_for_s("i-of-another") == 5


def test_what_lives_or_was_heard_lately_is_remembered() -> None:
    clock, liveness = started()
    liveness.heard("n-1")
    liveness.heard("n-2")
    clock.at += FORGET_AFTER_S + 1
    liveness.heard("n-new")
    liveness.forget({"n-1"})
    assert liveness.was_heard_within("n-new", 5), "its row may be younger than what the caller has read"
    assert liveness.was_heard_within("n-1", 2 * FORGET_AFTER_S)
    assert not liveness.was_heard_within("n-2", 2 * FORGET_AFTER_S)
    clock.at += 6
    assert not liveness.was_heard_within("n-new", 5)
