"""How many files this process may hold open, sockets among them, and whether it failed for want of one more."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import sys


def raise_limit() -> None:
    """Raise the soft limit to the hard one; what this process starts inherits it.

    The soft one is mostly 1024, for the sake of programs that call select(), which none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Refused where the hard one is above what the kernel gives to anybody: then the soft one stays.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many files this process may hold open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def ran_out(error: OSError) -> bool:
    """Whether it came about because this process, or its machine, could open no more files."""
    if isinstance(error, socket.gaierror):
        return not _opens_one_more()  # whoever looks up a name opens files too, and does not say that it could not
    return error.errno in (errno.EMFILE, errno.ENFILE)


def _opens_one_more() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
