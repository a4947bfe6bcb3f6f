"""What continuous integration makes of a run that failed: few are tried again, and named."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from tests.second_try import NEEDED_IT_MAX, failed_in, second_try

SUMMARY = """
...F [100%]
FAILED to draw a picture, says a log, which is no summary
=========================== short test summary info ============================
SKIPPED [1] tests/e2e/test_full_tmpfs.py:64: only root can mount a small file system
ERROR tests/faults/test_kills.py::test_status[gateway] - AssertionError: away
ERROR tests/faults/test_kills.py::test_status[kafka]
FAILED tests/unit/test_a.py::test_one[a - b] - assert 1 == 2
FAILED tests/unit/test_a.py::test_two
3 failed, 5 passed, 1 skipped, 2 errors in 1.00s
"""


def again(code: int) -> Sequence[str]:
    return (sys.executable, "-c", f"print('tried again'); raise SystemExit({code})")


def test_each_test_is_named_and_a_set_up_once_for_its_file() -> None:
    assert failed_in(SUMMARY) == [
        "tests/faults/test_kills.py",
        "tests/unit/test_a.py::test_one[a - b]",
        "tests/unit/test_a.py::test_two",
    ]


def test_few_that_pass_the_second_time_are_named(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert second_try("FAILED a.py::one - why\nERROR b.py::two\n", again(0)) == 0
    said = capfd.readouterr().out
    assert said.index("tried again") < said.index("PASSED ONLY THE SECOND TIME: 2")
    assert said.endswith("  a.py::one\n  b.py\n")


def test_who_fails_a_second_time_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert second_try("FAILED a.py::one\n", again(1)) == 1
    assert "SECOND TIME" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "output", ["".join(f"FAILED a.py::test_{n}\n" for n in range(NEEDED_IT_MAX + 1)), "Segmentation fault\n"]
)
def test_too_many_or_none_by_name_are_not_tried_again(capfd: pytest.CaptureFixture[str], output: str) -> None:
    assert second_try(output, again(0)) == 1
    assert "tried again\n" not in capfd.readouterr().out
