"""`hydra account`: customers' accounts (operator only)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.control import path_part
from cli.failures import EXIT_USAGE, CommandFailed
from cli.options import Json, control
from cli.output import money, show_fields, show_json, show_table

app = typer.Typer(help="Create, list and change accounts (operator).", no_args_is_help=True)

SpendLimit = Annotated[
    str | None, typer.Option("--spend-limit", metavar="AMOUNT", help="Refuse requests (402) once this much is spent.")
]


@app.command("create", epilog="Example: hydra account create acme --spend-limit 100 --json")
def create(name: str, spend_limit: SpendLimit = None, json: Json = False) -> None:
    """Create an account and print its id."""
    body: dict[str, Any] = {"name": name}
    if spend_limit is not None:
        body["spend_limit"] = spend_limit
    _show(control().send("POST", "accounts", "/v1/accounts", body), json)


@app.command("ls", epilog="Example: hydra account ls")
def ls(json: Json = False) -> None:
    """List all accounts."""
    rows = list(control().pages("accounts", "/v1/accounts"))
    if json:
        show_json({"data": rows})
        return
    show_table(
        "Accounts",
        ("id", "name", "status", "spend limit", "created"),
        (
            (
                row["id"],
                row["name"],
                row["status"],
                money(row["spend_limit"]) if row.get("spend_limit") else None,
                row["created"],
            )
            for row in rows
        ),
    )


@app.command("set", epilog="Examples: hydra account set u-8105f7322477 --spend-limit none, ... --status suspended")
def change(
    account: str,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    status: Annotated[str | None, typer.Option(help="active, suspended or closed.")] = None,
    spend_limit: Annotated[str | None, typer.Option(metavar="AMOUNT|none", help="A new limit, or none.")] = None,
    json: Json = False,
) -> None:
    """Change an account's name, status or spend limit; in force at the gateway within a second."""
    body: dict[str, Any] = {key: value for key, value in (("name", name), ("status", status)) if value is not None}
    if spend_limit is not None:
        body["spend_limit"] = None if spend_limit.lower() == "none" else spend_limit
    if not body:
        raise CommandFailed("nothing to change: give --name, --status or --spend-limit", EXIT_USAGE)
    _show(control().send("PATCH", "accounts", f"/v1/accounts/{path_part(account)}", body), json)


def _show(account: dict[str, Any], json: bool) -> None:
    if json:
        show_json(account)
    else:
        show_fields(f"Account {account['id']}", {key: value for key, value in account.items() if key != "id"})
