"""The second try of a whole run, for continuous integration: `python -m tests.second_try LOG`.

The tests kill real servers on a machine that others may share, so few of them may need to run again, alone. Which did
stands at the end, by name; that too many did is a failure, whatever they say then. A bill that was wrong once is one
too: a flaw that shows once in ten runs would pass every second try.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bills import disagreeing

ROOT = Path(__file__).resolve().parents[1]
NEEDED_IT_MAX = 3
AGAIN = (sys.executable, "-m", "pytest", "-q", "-rfEs", "--last-failed", "--last-failed-no-failures", "none", "tests")
# As pytest's summary names them, with the first line of the reason behind a dash.
_FAILED = re.compile(r"^FAILED (\S+?(?:\[.*?\])?)(?: - .*)?$")
_SET_UP_FAILED = re.compile(r"^ERROR ([^\s:]+)(?:::.*| - .*)?$")


def failed_in(output: str) -> list[str]:
    """What failed in a run, by its output: each test, and of tests that could not be set up their file, once."""
    found: dict[str, None] = {}
    for line in output.splitlines():
        for pattern in (_FAILED, _SET_UP_FAILED):
            if named := pattern.match(line):
                found[named[1]] = None
    return list(found)


def second_try(output: str, again: Sequence[str] = AGAIN) -> int:
    """The exit code: 0 only if few enough failed, none of them for a bill, and none of them a second time."""
    if disagreed := disagreeing(output):
        print(f"{len(disagreed)} failed because a bill was not what is due, which is never tried again:")
        print(*(f"  {name}" for name in disagreed), sep="\n")
        return 1
    failed = failed_in(output)
    if not failed:
        print("the run failed, and its summary names no test: nothing to try again")
        return 1
    if len(failed) > NEEDED_IT_MAX:
        print(f"{len(failed)} failed, and at most {NEEDED_IT_MAX} may be tried again:")
        print(*(f"  {name}" for name in failed), sep="\n")
        return 1
    sys.stdout.flush()
    if code := subprocess.run(again, cwd=ROOT, check=False).returncode:
        return code
    print(f"PASSED ONLY THE SECOND TIME: {len(failed)}, of at most {NEEDED_IT_MAX}")
    print(*(f"  {name}" for name in failed), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(second_try(Path(sys.argv[1]).read_text(errors="replace")))
