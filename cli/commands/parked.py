"""`hydra parked`: messages that could not be processed, and their replay (operator)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from adapters.clock import SystemClock
from adapters.kafka.parking import ParkedEntry, read_parked, replay_parked
from adapters.kafka.producer import EventProducer
from cli.failures import EXIT_NOT_FOUND, EXIT_USAGE, CommandFailed
from cli.options import Json
from cli.output import out, show_json, show_table
from cli.settings import CliSettings

app = typer.Typer(help="List parked messages and replay them (operator).", invoke_without_command=True)


@app.callback(epilog="Examples: hydra parked; hydra parked --json; hydra parked replay --reason unpriced")
def ls(context: typer.Context, json: Json = False) -> None:
    """List parked messages with their reason and source offset."""
    if context.invoked_subcommand is not None:
        return
    entries = asyncio.run(read_parked(CliSettings().kafka))
    if json:
        show_json({"data": [_row(entry) for entry in entries], "count": len(entries)})
        return
    show_table(
        "Parked messages",
        ("id", "reason", "detail", "parked at", "replayed"),
        ((e.id, e.message.reason, e.message.detail, e.message.parked_at.isoformat(), e.replays) for e in entries),
    )


@app.command("replay", epilog="Examples: hydra parked replay token_charges/hydra.usage/0/17; ... replay --all")
def replay(
    id: Annotated[list[str] | None, typer.Argument(help="Ids as `hydra parked` lists them.")] = None,
    reason: Annotated[str | None, typer.Option(help="All of this reason that were not replayed yet.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    json: Json = False,
) -> None:
    """Publish parked messages to their topics again. What had been processed after all changes nothing."""
    if not (id or reason or every):
        raise CommandFailed("say which: ids, --reason REASON or --all", EXIT_USAGE)
    count = asyncio.run(_replay(set(id or []), reason))
    if json:
        show_json({"replayed": count})
    else:
        out.print(f"{count} replayed.")


async def _replay(ids: set[str], reason: str | None) -> int:
    kafka = CliSettings().kafka
    entries = await read_parked(kafka)
    if unknown := ids - {entry.id for entry in entries}:
        raise CommandFailed(f"not parked: {', '.join(sorted(unknown))}", EXIT_NOT_FOUND)
    if ids:
        chosen = [entry for entry in entries if entry.id in ids]
    else:
        chosen = [e for e in entries if not e.replays and (reason is None or e.message.reason == reason)]
    async with EventProducer(kafka) as producer:
        return await replay_parked(chosen, producer, SystemClock())


def _row(entry: ParkedEntry) -> dict[str, Any]:
    message = entry.message
    return {
        "id": entry.id,
        "processor": message.processor,
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "reason": message.reason,
        "detail": message.detail,
        "parked_at": message.parked_at.isoformat(),
        "replays": entry.replays,
    }
