"""`hydra key`: API keys of an account."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.control import path_part
from cli.failures import EXIT_USAGE, CommandFailed
from cli.options import Account, Json, account_of, control
from cli.output import out, show_fields, show_json, show_table

app = typer.Typer(help="Create, list, disable and delete API keys.", no_args_is_help=True)


def _no_key(key_id: str) -> str:
    # Who disables a key that has leaked has the key at hand; it must not travel on in a path.
    if key_id.strip().startswith("sk-"):
        raise CommandFailed("that is the key itself; name its id, k-...: `hydra key ls` shows it", EXIT_USAGE)
    return key_id


KeyId = Annotated[str, typer.Argument(callback=_no_key, help="The key's id, k-...; never the key itself.")]


def _path(account: str | None, key_id: str | None = None) -> str:
    # "me" is the account of the customer's own key.
    return f"/v1/accounts/{path_part(account or 'me')}/keys" + ("" if key_id is None else f"/{path_part(key_id)}")


@app.command("create", epilog="Example: hydra key create --account u-8105f7322477 --scope inference --scope billing")
def create(
    account: Account = None,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, billing or manage; repeat it. Default: inference and billing.")
    ] = None,
    json: Json = False,
) -> None:
    """Create a key. It is shown this once and stored nowhere."""
    client = control()
    body: dict[str, Any] = {"name": name}
    if scope:
        body["scopes"] = scope
    key = client.send("POST", "accounts", _path(account_of(client, account)), body)
    if json:
        show_json(key)
        return
    show_fields(f"Key {key['id']}", {"key": key["key"], "name": key["name"], "scopes": key["scopes"]})
    out.print("Keep it now: it is not shown again.")


@app.command("ls", epilog="Example: hydra key ls --account u-8105f7322477")
def ls(account: Account = None, json: Json = False) -> None:
    """List an account's keys, masked, with their last use."""
    client = control()
    rows = list(client.pages("accounts", _path(account_of(client, account))))
    if json:
        show_json({"data": rows})
        return
    show_table(
        "API keys",
        ("id", "name", "key", "scopes", "status", "created", "last used"),
        (
            (row["id"], row["name"], row["masked"], row["scopes"], row["status"], row["created"], row.get("last_used"))
            for row in rows
        ),
    )


@app.command("disable", epilog="Example: hydra key disable k-5566778899aa --account u-8105f7322477")
def disable(key_id: KeyId, account: Account = None, json: Json = False) -> None:
    """Disable a key; requests with it are refused within a second."""
    client = control()
    key = client.send("PATCH", "accounts", _path(account_of(client, account), key_id), {"status": "disabled"})
    _done(key, "disabled", json)


@app.command("enable", epilog="Example: hydra key enable k-5566778899aa --account u-8105f7322477")
def enable(key_id: KeyId, account: Account = None, json: Json = False) -> None:
    """Enable a disabled key again."""
    client = control()
    key = client.send("PATCH", "accounts", _path(account_of(client, account), key_id), {"status": "active"})
    _done(key, "enabled", json)


@app.command("delete", epilog="Example: hydra key delete k-5566778899aa --account u-8105f7322477")
def delete(key_id: KeyId, account: Account = None, json: Json = False) -> None:
    """Delete a key for good."""
    client = control()
    _done(client.send("DELETE", "accounts", _path(account_of(client, account), key_id)), "deleted", json)


def _done(key: dict[str, Any], what: str, json: bool) -> None:
    if json:
        show_json(key)
    else:
        out.print(f"Key {key['id']} {what}.")
