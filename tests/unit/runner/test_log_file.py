"""Logs are bounded, whole, and tell why a process ended."""

from pathlib import Path

from adapters.errors import StopOnPurpose
from adapters.kafka.stops import last_words
from runner.log_file import REASON_LENGTH_MAX, RotatedLog
from schemas.stops import Gap


def test_a_full_log_makes_room_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "logs" / "web.log", bytes_max=10, kept=3)
    for line in (b"1111111\n", b"2222222\n", b"3333333\n", b"4444444\n"):
        log.write(line)
    log.close()
    files = {file.name: file.read_text() for file in (tmp_path / "logs").iterdir()}
    assert files == {"web.log": "4444444\n", "web.log.1": "3333333\n", "web.log.2": "2222222\n"}


def test_a_log_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        log = RotatedLog(tmp_path / "web.log", bytes_max=12, kept=2)
        log.write(text)
        log.close()
    assert (tmp_path / "web.log").read_text() == "second\n"
    assert (tmp_path / "web.log.1").read_text() == "first\n"


def test_the_reason_is_the_message_of_the_last_structured_line(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "web.log")
    log.write(b'{"level": "INFO", "message": "starting"}\n{"level": "ERROR", "mess')
    log.write(b'age": "the port is taken"}\n\n')
    assert log.reason() == "the port is taken"


def test_the_reason_is_the_last_line_of_a_traceback(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "web.log")
    log.write(b"Traceback (most recent call last):\n  ...\nKeyError: 'x'\n")
    assert log.reason() == "KeyError: 'x'"


def test_a_new_run_has_no_reason_yet(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "web.log")
    log.write(b"old trouble\nhalf a line")
    log.forget_lines()
    assert log.reason() == ""


def test_a_flood_without_line_ends_is_bounded(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "web.log", bytes_max=100_000, kept=2)
    for _ in range(50):
        log.write(b"x" * 10_000)
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 200_000
    assert len(log.reason()) <= REASON_LENGTH_MAX


def reason_of_a_stop(folder: Path, gaps: int) -> str:
    """Of a processor whose log lost messages in so many partitions, as it ends."""
    lost = tuple(Gap("hydra.usage", partition, 10**9, 10**10) for partition in range(gaps))
    stop = StopOnPurpose(" and ".join(["messages are lost that were not read"] * 40), gaps=lost)
    log = RotatedLog(folder / "web.log")
    log.write(last_words("token_charges", stop).encode() + b"\n")
    return log.reason()


def test_of_a_long_reason_the_command_at_its_end_is_left_whole(tmp_path: Path) -> None:
    reason = reason_of_a_stop(tmp_path, 2)
    assert len(reason) == REASON_LENGTH_MAX and reason.startswith("messages are lost")
    assert reason.endswith(
        "...; to go on: hydra resume token_charges --gap hydra.usage/0:1000000000-10000000000"
        " --gap hydra.usage/1:1000000000-10000000000"
    )


def test_a_command_that_is_too_long_is_not_cut_but_named(tmp_path: Path) -> None:
    reason = reason_of_a_stop(tmp_path, 64)
    assert len(reason) == REASON_LENGTH_MAX and reason.startswith("messages are lost")
    assert reason.endswith("...; to go on: `hydra resume token_charges` shows what to type")


def test_any_other_long_line_shows_that_it_goes_on(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "web.log")
    log.write(b"x" * 2 * REASON_LENGTH_MAX + b"\n")
    assert log.reason() == "x" * (REASON_LENGTH_MAX - 3) + "..."
    log.write(b"; to go on: " + b"x" * 2 * REASON_LENGTH_MAX + b"\n")
    assert len(log.reason()) == REASON_LENGTH_MAX
