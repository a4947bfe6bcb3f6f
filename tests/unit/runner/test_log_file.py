"""Logs are bounded, whole, and tell why a process ended."""

from pathlib import Path

from runner.log_file import REASON_LENGTH_MAX, RotatedLog


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
