"""What continuous integration makes of a run that failed: few are tried again, and named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bills import Mismatch, bills_agree, disagreeing
from tests.second_try import NEEDED_IT_MAX, ROOT, failed_in, second_try

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


WRONG_BILLS = """
import pytest
from tests.bills import Mismatch, bills_agree

@pytest.fixture(scope="module")
def compared():
    raise Mismatch("the bill is not the truth")

def test_set_up_for_nothing(compared): pass

def test_owed_1(): bills_agree({"u-1": 2}, {"u-1": 1})

def test_in_a_group(): raise ExceptionGroup("of tasks", [ValueError(), Mismatch("one of them")])

@pytest.mark.bills
@pytest.mark.parametrize("how", ["in a way - or another"])
def test_marked(how): assert not how

@pytest.mark.bills
def test_right_but_broken(): raise OSError("no server")

def test_something_else(): assert bills_agree(1, 1)
"""


@pytest.mark.parametrize("at_once", ["0", "1"])
def test_a_run_names_who_failed_for_a_bill(tmp_path: Path, at_once: str) -> None:
    """However short the summary's lines are, and in whichever process the test ran."""
    (tmp_path / "test_wrong.py").write_text(WRONG_BILLS)
    alone = ("-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-p", "tests.conftest")
    run = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-rfEs", "-n", at_once, *alone, str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(failed_in(run.stdout)) == 6, run.stdout + run.stderr
    names = ("set_up_for_nothing", "owed_1", "in_a_group", "marked[in a way - or another]")
    assert set(disagreeing(run.stdout)) == {f"test_wrong.py::test_{name}" for name in names}, run.stdout


def test_a_bill_that_was_wrong_once_is_not_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    output = "FAILED a.py::test_one\nBILLS DISAGREE: a.py::test_one[a b]\n"
    assert second_try(output, again(0)) == 1
    said = capfd.readouterr().out
    assert "tried again\n" not in said.replace("never tried again", "")
    assert said.endswith("  a.py::test_one[a b]\n")


@pytest.mark.parametrize(
    ("found", "due", "said"),
    [
        ({"u-1": 2, "u-2": 1}, {"u-1": 1, "u-2": 1}, "u-1: billed 2, due 1"),
        ({"u-1": 2}, {}, "u-1: billed 2, due None"),
        ({"one"}, {"two"}, "billed, not due: one\n  due, not billed: two"),
        (1, 2, "billed 1, due 2"),
    ],
)
def test_bills_that_disagree_say_in_what(found: object, due: object, said: str) -> None:
    with pytest.raises(Mismatch) as raised:
        bills_agree(found, due)
    assert str(raised.value) == f"the bill is not what is due:\n  {said}"
    bills_agree(due, due)
