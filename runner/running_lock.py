"""One platform a home: the lock that a supervisor holds as long as it lives, and that its death gives back."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from runner.home_folder import make_home
from runner.settings import RunnerSettings
from runner.status import read_record


class AlreadyRunning(Exception):
    """A platform runs in this home; the text says which process it is and how to stop it."""


@contextlib.contextmanager
def running_lock(settings: RunnerSettings) -> Iterator[None]:
    """Holds this home for one supervisor. Raises AlreadyRunning."""
    make_home(settings)
    with (settings.run_dir / "platform.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            record = read_record(settings)
            who = f" (process {record.pid})" if record else ""
            raise AlreadyRunning(
                f"a platform is already running in {settings.home}{who}: `hydra status` shows it, `hydra down` stops "
                "it; for a second one set HYDRA_HOME and other ports"
            ) from None
        yield
