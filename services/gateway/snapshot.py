"""What the gateway knew of keys and services when it last saw Kafka, in one file replaced as a whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState
from schemas.spend import BalanceStated

logger = logging.getLogger(__name__)


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
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(_encoder.encode(snapshot))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path) -> Snapshot | None:
    """None where there is none, or none that can be read: then the gateway waits for Kafka."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.error("snapshot cannot be read", extra={"cause": type(error).__name__})
        return None
