"""Calls the control services over HTTP, as the operator or with a customer's key."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

from adapters import secret_files
from adapters.errors import Misconfigured
from cli.failures import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, CommandFailed
from cli.settings import CliSettings

PAGES_MAX = 1_000


def path_part(name: str) -> str:
    """A name as one part of a path, whatever it holds; those that would mean another path are refused."""
    if name in ("", ".", ".."):
        raise CommandFailed(f"{name!r} is no name", EXIT_USAGE)
    return quote(name, safe="")


class Control:
    """One call, one answer; every failure is a CommandFailed with the service's own sentence."""

    def __init__(self, settings: CliSettings) -> None:
        self._settings = settings

    @property
    def as_customer(self) -> bool:
        """Whether a customer's key is used; then the account is the key's own."""
        return self._settings.api_key is not None

    def get(self, service: str, path: str, **query: Any) -> Any:
        """The decoded JSON answer; query parameters that are None are left out."""
        return self._call("GET", service, path, query, None)

    def pages(self, service: str, path: str, rows_max: int | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """The rows of a paged answer (`data`, `next_cursor`), at most `rows_max`."""
        cursor: str | None = None
        count = 0
        for _ in range(PAGES_MAX):
            page = self.get(service, path, **query, cursor=cursor)
            for row in page["data"]:
                if rows_max is not None and count >= rows_max:
                    return
                count += 1
                yield row
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def send(self, method: str, service: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
        """POST, PATCH or DELETE with an Idempotency-Key of its own, so that a retry by the transport does no harm."""
        return self._call(method, service, path, query, body)

    def _token(self) -> str:
        if self._settings.api_key is not None:
            return self._settings.api_key.get_secret_value()
        try:
            return secret_files.read(self._settings.home / "secrets", secret_files.OPERATOR_TOKEN)
        except Misconfigured as error:
            raise CommandFailed(
                f"{error}; or set HYDRA_API_KEY to act as a customer, or HYDRA_HOME to the platform's folder"
            ) from error

    def _call(self, method: str, service: str, path: str, query: dict[str, Any], body: dict[str, Any] | None) -> Any:
        url = self._settings.url(service) + path
        headers = {"Authorization": f"Bearer {self._token()}"}
        if method != "GET":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        params = {name: value for name, value in query.items() if value is not None}
        try:
            answer = httpx.request(
                method, url, params=params, json=body, headers=headers, timeout=self._settings.request_timeout_s
            )
        except httpx.HTTPError as error:
            raise CommandFailed(
                f"{service} does not answer at {self._settings.url(service)} ({type(error).__name__}); "
                "is the platform up? See: hydra status",
                EXIT_UNREACHABLE,
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else {}
        raise CommandFailed(_sentence(answer), EXIT_NOT_FOUND if answer.status_code == 404 else EXIT_REFUSED)


def _sentence(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        parts = [str(error["message"])]
        if advice := error.get("what_to_do"):
            parts.append(str(advice))
        return " ".join(parts)
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}: {answer.text[:300]}"
