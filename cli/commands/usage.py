"""`hydra usage` and `hydra bill`: what was used, and what it costs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import Account, Json, Month, account_of, control
from cli.output import grouped, money, out, show_json, show_table

COLUMNS = ("model", "resource", "meter", "quantity", "unit price", "amount")
UNBILLED_COLUMNS = ("why not charged", "model", "resource", "requests", "prompt tokens", "completion tokens")


def add_to(app: typer.Typer) -> None:
    """Add both commands to the top level."""
    app.command("usage", epilog="Example: hydra usage --account u-8105f7322477 --json")(usage)
    app.command("bill", epilog="Example: hydra bill --account u-8105f7322477 --month 2026-11")(bill)


def usage(
    account: Account = None,
    month: Month = None,
    since: Annotated[str | None, typer.Option(metavar="INSTANT", help="From this instant (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(metavar="INSTANT", help="Up to this instant, not included.")] = None,
    json: Json = False,
) -> None:
    """Show what an account has used, with what it costs so far, and what is not charged, with the reason.

    The reason gateway_lost counts requests that ran when a gateway died or was stopped: the platform pays for them.
    """
    client = control()
    query = {"month": month, "from": since, "until": until}
    answer = client.get("billing", "/v1/usage", account=account_of(client, account), **query)
    _show("Usage", answer, json)


def bill(account: Account = None, month: Month = None, json: Json = False) -> None:
    """Show the bill of a month: each line, and totals by model and by resource."""
    client = control()
    answer = client.get("billing", "/v1/bill", account=account_of(client, account), month=month)
    _show(f"Bill {answer.get('month', '')}", answer, json)


def _show(title: str, answer: dict[str, Any], json: bool) -> None:
    if json:
        show_json(answer)
    else:
        show_summary(title, answer)


def show_summary(title: str, answer: dict[str, Any]) -> None:
    """The lines, the totals, what is not charged and why, and how far the warehouse has come."""
    show_table(title, COLUMNS, (_row(line) for line in answer["lines"]))
    totals = answer["totals"]
    for name in ("by_model", "by_resource"):
        if rows := totals.get(name):
            show_table(
                f"Total {name.replace('_', ' ')}",
                (name.removeprefix("by_"), "amount", "currency"),
                ((row[name.removeprefix("by_")], money(row["amount"]), row["currency"]) for row in rows),
            )
    for row in totals.get("overall", []):
        out.print(f"[bold]Total {money(row['amount'])} {row['currency']}[/bold]")
    if unbilled := answer.get("unbilled"):
        show_table("Not charged", UNBILLED_COLUMNS, map(_unbilled_row, unbilled))
    if as_of := answer.get("as_of"):
        out.print(f"As of {as_of['time'] if isinstance(as_of, dict) and 'time' in as_of else as_of}.")


def _row(line: dict[str, Any]) -> tuple[Any, ...]:
    units = "1 hour" if line["unit"] == "second" else "1M tokens"
    return (
        line["model"],
        line["resource"],
        line["meter"],
        f"{grouped(line['quantity'])} {line['unit']}s",
        f"{money(line['unit_price'])} / {units}" if line.get("unit_price") is not None else None,
        f"{money(line['amount'])} {line['currency']}",
    )


def _unbilled_row(row: dict[str, Any]) -> tuple[Any, ...]:
    tokens = (grouped(row["prompt_tokens"]), grouped(row["completion_tokens"]))
    return (row["reason"], row["model"] or None, row["resource"] or None, grouped(row["requests"]), *tokens)
