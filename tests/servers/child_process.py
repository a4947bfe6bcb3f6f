"""What every server started by a test shares: it must not outlive the test run, however that ends."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """For `preexec_fn`: Linux kills this child when the thread that started it is gone, kill -9 included."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
