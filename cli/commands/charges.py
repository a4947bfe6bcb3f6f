"""`hydra charge`: the single charges, each of which explains itself."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Account, Json, Limit, Month, account_of, control
from cli.output import grouped, money, show_json, show_table


def add_to(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command("charge", epilog="Example: hydra charge --account u-8105f7322477 --source cmp-0001...")(charge)


def charge(
    account: Account = None,
    month: Month = None,
    source: Annotated[str | None, typer.Option(metavar="EVENT", help="Only of this request or instance event.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List charge lines, oldest first: quantity x price / per = amount, with the price's version and the source."""
    client = control()
    rows = list(
        client.pages(
            "billing",
            "/v1/charges",
            rows_max=limit,
            account=account_of(client, account),
            month=month,
            source=source,
            limit=min(limit, 500),
        )
    )
    if json:
        show_json({"data": rows})
        return
    show_table(
        "Charges",
        ("source", "meter", "quantity", "unit price", "price version", "amount"),
        (
            (
                row["source_event"],
                row["meter"],
                grouped(row["quantity"]),
                f"{money(row['unit_price'])} / {'1 hour' if row['per'] == 3600 else '1M tokens'}",
                f"@{row['price_version']} {row['price_source']}",
                f"{money(row['amount'])} {row['currency']}",
            )
            for row in rows
        ),
    )
