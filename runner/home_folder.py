"""The platform's own folder: whoever else has an account on this machine reads nothing in it."""

from __future__ import annotations

import contextlib

from runner.settings import RunnerSettings

PRIVATE = 0o700


def make_home(settings: RunnerSettings) -> None:
    """Make the home, or close one of an earlier release, and the folder of the run in it. Raises OSError."""
    settings.home.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    # Another user's folder that we may write into is that user's to close.
    with contextlib.suppress(PermissionError):
        settings.home.chmod(PRIVATE)
    settings.run_dir.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
