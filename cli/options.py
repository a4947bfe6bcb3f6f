"""Options that many commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.control import Control
from cli.failures import EXIT_USAGE, CommandFailed
from cli.settings import CliSettings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Account = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="The account, u-... (needed unless HYDRA_API_KEY is set)."),
]
Month = Annotated[
    str | None,
    typer.Option("--month", metavar="YYYY-MM", help="A month in the platform's time zone; default: this one."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most this many rows.")]


def control() -> Control:
    """The client of the control services, from the environment."""
    return Control(CliSettings())


def account_of(client: Control, account: str | None) -> str | None:
    """The account to act on; None with a customer's key, which knows its own."""
    if account is None and not client.as_customer:
        raise CommandFailed("--account ID is needed: `hydra account ls` lists them", EXIT_USAGE)
    return account
