"""Secrets are files of mode 0600 in one folder of mode 0700, made once and never overwritten."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from adapters.errors import Misconfigured

OPERATOR_TOKEN = "operator_token"
CLUSTER_SECRET = "cluster_secret"
CLICKHOUSE_ADMIN_PASSWORD = "clickhouse_admin_password"
ANALYST_PASSWORD = "analyst_password"
BILLING_PASSWORD = "billing_password"
ALL = (OPERATOR_TOKEN, CLUSTER_SECRET, CLICKHOUSE_ADMIN_PASSWORD, ANALYST_PASSWORD, BILLING_PASSWORD)


def make_missing(folder: Path) -> None:
    """Write every secret that does not exist yet (32 random bytes each, base64url), each whole or not at all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ALL:
        for leftover in folder.glob(_unfinished(name, "*")):
            leftover.unlink(missing_ok=True)
        prefix = "op-" if name == OPERATOR_TOKEN else ""
        while not (folder / name).exists():
            _make(folder, name, prefix + secrets.token_urlsafe(32) + "\n")


def _unfinished(name: str, mark: str) -> str:
    return f".{name}.{mark}.new"


def _make(folder: Path, name: str, text: str) -> None:
    """A secret gets its name once it is on disk: one that a kill left empty would be taken for made, for ever."""
    scratch = folder / _unfinished(name, secrets.token_hex(8))
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    # Refused where another start was faster, or has cleared this file away as a leftover: the caller looks again.
    with suppress(FileExistsError, FileNotFoundError):
        os.link(scratch, folder / name)
    scratch.unlink(missing_ok=True)
    _sync_names(folder)


def _sync_names(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: Path, name: str) -> str:
    """The secret's text. Raises Misconfigured where it is absent, empty or readable by others."""
    path = folder / name
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"the secret {path} cannot be read ({error.strerror}); `hydra up` makes it") from error
    if mode & 0o077:
        raise Misconfigured(f"the secret {path} can be read by others; run: chmod 600 {path}")
    if not text:
        raise Misconfigured(f"the secret {path} is empty; remove it and start `hydra up` again")
    return text
