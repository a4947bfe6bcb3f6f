"""`hydra service`: own instances of a model, paid by time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.control import path_part
from cli.options import Account, Json, account_of, control
from cli.output import money, out, show_fields, show_json, show_table

app = typer.Typer(help="Deploy, scale, stop and delete services.", no_args_is_help=True)


@app.command(
    "deploy",
    epilog="Example: hydra service deploy test --model qwen2.5-7b-instruct --region sh-02 --account u-8105f7322477",
)
def deploy(
    name: str,
    model: Annotated[str, typer.Option(help="A model of the catalogue: hydra model ls.")],
    region: Annotated[
        str | None, typer.Option(help="Where; default: the first region that has a fitting spec.")
    ] = None,
    spec: Annotated[str | None, typer.Option(help="GPU type and count; default: the model's first spec there.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="How many instances.")] = 1,
    account: Account = None,
    json: Json = False,
) -> None:
    """Deploy a service; its instances are paid by the second while they are ready."""
    client = control()
    body: dict[str, Any] = {"name": name, "model": model, "replicas": replicas}
    body |= {key: value for key, value in (("region", region), ("spec", spec)) if value is not None}
    _show(client.send("POST", "lifecycle", "/v1/services", body, account=account_of(client, account)), json)


@app.command("ls", epilog="Example: hydra service ls --account u-8105f7322477")
def ls(account: Account = None, json: Json = False) -> None:
    """List services."""
    client = control()
    rows = list(client.pages("lifecycle", "/v1/services", account=account_of(client, account)))
    if json:
        show_json({"data": rows})
        return
    show_table(
        "Services",
        ("access path", "model", "status", "ready", "replicas", "region", "spec", "created"),
        (
            (
                row["access_path"],
                row["model"],
                row["status"],
                row["ready"],
                row["replicas"],
                row["region"],
                row["spec"],
                row["created"],
            )
            for row in rows
        ),
    )


@app.command("show", epilog="Example: hydra service show test --account u-8105f7322477 --json")
def show(name: str, account: Account = None, json: Json = False) -> None:
    """Show one service: state, price, endpoint, and how to call it."""
    client = control()
    _show(
        client.get("lifecycle", f"/v1/services/{path_part(name)}", account=account_of(client, account)),
        json,
        examples=True,
    )


@app.command(
    "scale", epilog="Examples: hydra service scale test 3 (sets three); hydra service scale test +2 (adds two)"
)
def scale(name: str, replicas: str, account: Account = None, json: Json = False) -> None:
    """Set the number of instances, or add to it with +N."""
    client = control()
    path = f"/v1/services/{path_part(name)}/scale"
    _show(client.send("POST", "lifecycle", path, {"replicas": replicas}, account=account_of(client, account)), json)


@app.command("stop", epilog="Example: hydra service stop test --account u-8105f7322477")
def stop(name: str, account: Account = None, json: Json = False) -> None:
    """End all instances but keep the service; nothing is paid while it is stopped."""
    client = control()
    path = f"/v1/services/{path_part(name)}/stop"
    _show(client.send("POST", "lifecycle", path, {}, account=account_of(client, account)), json)


@app.command("start", epilog="Example: hydra service start test --account u-8105f7322477")
def start(name: str, account: Account = None, json: Json = False) -> None:
    """Start a stopped service again."""
    client = control()
    path = f"/v1/services/{path_part(name)}/start"
    _show(client.send("POST", "lifecycle", path, {}, account=account_of(client, account)), json)


@app.command("delete", epilog="Example: hydra service delete test --confirm test --account u-8105f7322477")
def delete(
    name: str,
    confirm: Annotated[str | None, typer.Option(help="The name again; asked for at a terminal.")] = None,
    account: Account = None,
    json: Json = False,
) -> None:
    """Delete a service for good. The name must be repeated."""
    client = control()
    repeated = confirm if confirm is not None else typer.prompt(f"Type the name to delete {name}", default="")
    path = f"/v1/services/{path_part(name)}"
    _show(client.send("DELETE", "lifecycle", path, account=account_of(client, account), confirm=repeated), json)


def _show(service: dict[str, Any], json: bool, *, examples: bool = False) -> None:
    if json:
        show_json(service)
        return
    price = service.get("price_per_hour")
    show_fields(
        f"Service {service['access_path']}",
        {
            "status": service["status"],
            "reason": service.get("reason"),
            "model": service["model"],
            "instances": f"{service['ready']} ready of {service['replicas']} wanted",
            "region, spec": f"{service['region']}, {service['spec']}",
            "billing": service["billing_mode"],
            "price": f"{money(price)} {service.get('currency', '')} per instance and hour" if price else None,
            "endpoint": service.get("endpoint"),
            "created": service["created"],
        },
    )
    instances = service.get("instances") or []
    if instances:
        # Which machine each runs on is told to the operator alone.
        nodes = any(one.get("node") for one in instances)
        show_table(
            "Instances",
            ("id", "state", "reason", "created", "billed until", *(("node",) if nodes else ())),
            (
                (
                    one["id"],
                    one["state"],
                    one.get("reason"),
                    one["created"],
                    one.get("billed_until"),
                    *((one.get("node"),) if nodes else ()),
                )
                for one in instances
            ),
        )
    if examples and (calls := service.get("examples")):
        for language, text in calls.items():
            out.print(f"\n[bold]{language}[/bold]")
            out.print(text, markup=False)
