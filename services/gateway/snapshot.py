"""What the gateway knew of keys and services when it last saw Kafka, in one file replaced as a whole."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState
from schemas.spend import BalanceStated

logger = logging.getLogger(__name__)

LEFTOVER_AGE_S = 600.0
"""Far more than a write takes. A writer that stood still for longer finds its file gone, and writes the next one."""
_TEMPORARY_SUFFIX = ".tmp"


class Snapshot(msgspec.Struct, kw_only=True):
    """`confirmed` is the wall time (seconds since 1970) at which all of it was known to be current."""

    confirmed: float
    accounts: list[AccountState] = []
    keys: list[ApiKeyState] = []
    balances: list[BalanceStated] = []
    deployments: list[DeploymentState] = []


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Snapshot)


def save(path: Path, snapshot: Snapshot) -> None:
    """Replace the file; a reader sees the old or the new one, whole. Raises OSError."""
    data = _encoder.encode(snapshot)
    _remove_leftovers(path)
    # Gateways in containers share the folder and may share their process id: only chance tells their files apart.
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=_TEMPORARY_SUFFIX, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """A writer that is killed leaves its file. Room is made before more is taken."""
    oldest = time.time() - LEFTOVER_AGE_S
    for leftover in path.parent.glob(f"{path.name}.*{_TEMPORARY_SUFFIX}"):
        with suppress(FileNotFoundError):  # another gateway was faster
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()


def load(path: Path) -> Snapshot | None:
    """None where there is none, or none that can be read: then the gateway waits for Kafka."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.error("snapshot cannot be read", extra={"cause": type(error).__name__})
        return None
