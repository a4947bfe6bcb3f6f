"""`hydra model`: the catalogue."""

from __future__ import annotations

import typer

from cli.options import Json, control
from cli.output import show_json, show_table

app = typer.Typer(help="The models that can be called or deployed.", no_args_is_help=True)


@app.command("ls", epilog="Example: hydra model ls --json")
def ls(json: Json = False) -> None:
    """List the catalogue: hosting modes, and the specs that a service of the model may have."""
    answer = control().get("lifecycle", "/v1/models")
    if json:
        show_json(answer)
        return
    show_table(
        "Models",
        ("model", "name", "hosting", "specs"),
        ((row["id"], row["name"], row["hosting"], row["specs"]) for row in answer["data"]),
    )
