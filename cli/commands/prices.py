"""`hydra price`: the prices in force."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json, control
from cli.output import money, show_json, show_table

app = typer.Typer(help="The recorded prices.", no_args_is_help=True)


@app.command("ls", epilog="Examples: hydra price ls --model deepseek-r1; hydra price ls --all")
def ls(
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Past and future versions too.")] = False,
    json: Json = False,
) -> None:
    """List prices: per million tokens, or per hour of an instance by region and spec."""
    rows = list(control().pages("billing", "/v1/prices", model=model, all="true" if every else None))
    if json:
        show_json({"data": rows})
        return
    show_table(
        "Prices",
        ("price id", "version", "price", "from", "source"),
        (
            (
                row["price_id"],
                row["version"],
                f"{money(row['unit_price'])} {row['currency']} / {'1 hour' if row['per'] == 3600 else '1M tokens'}",
                row["effective_from"],
                row["source"],
            )
            for row in rows
        ),
    )
