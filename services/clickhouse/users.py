"""Who may ask: `hydra`, which may do everything; `analyst` and `billing`, who read. No user is without a password."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.clickhouse.client import ADMIN, ANALYST, BILLING
from services.clickhouse.errors import QueryError

_AUTHENTICATION_FAILED = 516
# Compared with when the user is unknown, so that this takes as long as a wrong password.
_NOBODY = "no user has this password"


@dataclass(frozen=True)
class User:
    name: str
    reads_only: bool


@dataclass(frozen=True)
class Users:
    """The users and their passwords."""

    admin_password: str
    analyst_password: str
    billing_password: str

    def authenticate(self, headers: Mapping[str, str], parameters: Mapping[str, str]) -> User:
        """By HTTP's basic login, ClickHouse's headers or its URL parameters. Raises QueryError 516, never saying which
        of the two was wrong."""
        name, password = _credentials(headers, parameters)
        expected = {
            ADMIN: self.admin_password,
            ANALYST: self.analyst_password,
            BILLING: self.billing_password,
        }.get(name)
        equal = hmac.compare_digest(password.encode(), (expected or _NOBODY).encode())
        if expected is None or not equal:
            raise QueryError(
                _AUTHENTICATION_FAILED,
                f"{name[:64]!r}: Authentication failed: password is incorrect, or there is no user with such name. "
                "(AUTHENTICATION_FAILED)",
            )
        return User(name=name, reads_only=name != ADMIN)


def _credentials(headers: Mapping[str, str], parameters: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # of base64, of its characters, of UTF-8
            return "", ""
        return name, password
    if "x-clickhouse-user" in headers:
        return headers["x-clickhouse-user"], headers.get("x-clickhouse-key", "")
    return parameters.get("user", ""), parameters.get("password", "")
