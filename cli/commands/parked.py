"""`hydra parked`: messages that could not be processed, and their replay (operator)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from adapters.clock import SystemClock
from adapters.kafka.parking import ParkedEntry, list_parked, replay_listed
from adapters.kafka.producer import EventProducer
from cli.failures import EXIT_NOT_FOUND, EXIT_USAGE, CommandFailed
from cli.options import Json, Limit
from cli.output import out, show_json, show_table
from cli.settings import CliSettings

LISTED_MAX = 1_000
REPLAYED_MAX = 200_000
"""Messages that one replay knows of, the newest, at about 1 KB each; their contents are read one at a time."""

app = typer.Typer(help="List parked messages and replay them (operator).", invoke_without_command=True)


@app.callback(epilog="Examples: hydra parked; hydra parked --json; hydra parked replay --reason unpriced")
def ls(context: typer.Context, limit: Limit = LISTED_MAX, json: Json = False) -> None:
    """List parked messages with their reason and source offset, the newest where there are more than the limit."""
    if context.invoked_subcommand is not None:
        return
    entries, held = asyncio.run(list_parked(CliSettings().kafka, limit))
    if json:
        show_json({"data": [_row(entry) for entry in entries], "count": held})
        return
    show_table(
        "Parked messages",
        ("id", "reason", "detail", "parked at", "replayed"),
        ((e.id, e.message.reason, e.message.detail, e.message.parked_at.isoformat(), e.replays) for e in entries),
    )
    if held > len(entries):
        out.print(f"{held} messages are parked; these are the newest {len(entries)}: see --limit")


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
    entries, _ = await list_parked(kafka, REPLAYED_MAX)
    if unknown := ids - {entry.id for entry in entries}:
        raise CommandFailed(f"not parked: {', '.join(sorted(unknown))}", EXIT_NOT_FOUND)
    if lost := sorted(e.id for e in entries if e.id in ids and e.message.value_bytes is not None):
        raise CommandFailed(f"too large to have been kept, they lie on their own topics alone: {', '.join(lost)}")
    if ids:
        chosen = [entry for entry in entries if entry.id in ids]
    else:
        chosen = [e for e in entries if not e.replays and (reason is None or e.message.reason == reason)]
    async with EventProducer(kafka) as producer:
        return await replay_listed(kafka, chosen, producer, SystemClock())


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
