"""Secrets are files of mode 0600 in one folder of mode 0700, made once and never overwritten."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from adapters.errors import Misconfigured

OPERATOR_TOKEN = "operator_token"
CLUSTER_SECRET = "cluster_secret"
CLICKHOUSE_ADMIN_PASSWORD = "clickhouse_admin_password"
ANALYST_PASSWORD = "analyst_password"
BILLING_PASSWORD = "billing_password"
ALL = (OPERATOR_TOKEN, CLUSTER_SECRET, CLICKHOUSE_ADMIN_PASSWORD, ANALYST_PASSWORD, BILLING_PASSWORD)


def make_missing(folder: Path) -> None:
    """Write every secret that does not exist yet (32 random bytes each, base64url)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ALL:
        prefix = "op-" if name == OPERATOR_TOKEN else ""
        try:
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(handle, "w") as file:
            file.write(prefix + secrets.token_urlsafe(32) + "\n")


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
