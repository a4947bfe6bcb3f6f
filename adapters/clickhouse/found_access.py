"""What the step `analyst` has found of the ClickHouse server, kept for those who start after it.

One file in the folder `access` of the platform. Where the server has no user for billing, which then reads as the
server's owner, the owner's password lies beside it: no other server's platform hands it to billing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from adapters import secret_files
from adapters.clickhouse.client import ADMIN
from adapters.errors import Misconfigured

FOLDER = "access"
FILE_NAME = "clickhouse.json"
_PASSWORD_NAME = secret_files.CLICKHOUSE_ADMIN_PASSWORD


class FoundAccess(msgspec.Struct, frozen=True, kw_only=True):
    """`analyst` says in one line what holds the analyst. `billing_user` and `analyst_user` are whom billing and the
    command `hydra sql` read as: users of their own, or on a server without access control its owner, `hydra`."""

    analyst: str
    billing_user: Literal["billing", "hydra"]
    analyst_user: Literal["analyst", "hydra"] = "analyst"


def keep(home: Path, found: FoundAccess, admin_password: str) -> None:
    """Writes it down for the next start of billing; the password only where billing needs it."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if found.billing_user == ADMIN:
        _put(folder / _PASSWORD_NAME, admin_password.encode())
    else:
        (folder / _PASSWORD_NAME).unlink(missing_ok=True)
    # Last: whoever reads that billing is the owner finds the password.
    _put(folder / FILE_NAME, msgspec.json.encode(found))


def found_access(home: Path) -> FoundAccess | None:
    """What was found last; None where the step has never run. Raises Misconfigured for a file that is no such."""
    path = home / FOLDER / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=FoundAccess)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise Misconfigured(f"{path} cannot be read ({error}); run the step `analyst` again") from error


def owners_password_file(home: Path) -> Path:
    """Where the owner's password lies while billing reads as the owner."""
    return home / FOLDER / _PASSWORD_NAME


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all, for its owner alone: billing may start at this moment."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    scratch.replace(path)
