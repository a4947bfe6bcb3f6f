"""Programs that tests need and that are not ours: where they cannot be had, a test is left out, or has failed.

HYDRA_TESTS_NEED_ALL=1 says that this machine can fetch them, as continuous integration does: then a test that is left
out for one has failed.
"""

from __future__ import annotations

import os

import pytest

NEED_ALL_SETTING = "HYDRA_TESTS_NEED_ALL"


class ProgramMissing(Exception):
    """A program that the tests' own set-up fetches is not here; the text says why and what to do."""


def failed_instead(call: pytest.CallInfo[None]) -> str:
    """Why this skip counts as a failure: it is for a program that was to be fetched, and all are needed. Else empty."""
    if os.environ.get(NEED_ALL_SETTING) != "1" or call.excinfo is None:
        return ""
    missing = call.excinfo.value.__context__
    return f"{NEED_ALL_SETTING}=1, and {missing}" if isinstance(missing, ProgramMissing) else ""
