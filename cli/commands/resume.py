"""`hydra resume`: lets a process go on that stopped on purpose, once the operator has named what is missing."""

from __future__ import annotations

import asyncio
import getpass
from typing import Annotated, Any

import typer

from adapters.kafka.stops import Stops
from cli.failures import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE, CommandFailed
from cli.options import Json
from cli.output import out, show_json
from cli.settings import CliSettings
from domain.stops import command_to_go_on, gap_of, gap_text, unanswered
from runner import resuming
from runner.processes import PROCESSES
from runner.settings import RunnerSettings
from schemas.stops import StopNoted

EXAMPLES = (
    "Examples: hydra resume token_charges; hydra resume token_charges --gap hydra.usage/3:120-180 --reason 'disk lost';"
    " hydra resume warehouse --from-start; hydra resume billing"
)


def add_to(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command("resume", epilog=EXAMPLES)(resume)


def resume(
    process: Annotated[str, typer.Argument(help="The process, as `hydra status` names it.")],
    gap: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC/PARTITION:FIRST-LAST", help="Accept that these offsets are lost; may be repeated."),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Read again what the log still holds; what comes twice counts once.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Your words for the record.")] = "",
    json: Json = False,
) -> None:
    """Let a process go on that stopped on purpose (exit code 78). Without options, show what must be named.

    What you accept is kept on the topic hydra.stops and shown to analysts as `v_gaps`. Exit code 0 once the process
    runs again, or, where it is not run by this machine's supervisor, once the acceptance is recorded.
    """
    if process not in {one.name for one in PROCESSES}:
        raise CommandFailed(f"there is no process {process!r}: `hydra status` lists them", EXIT_NOT_FOUND)
    try:
        named = {gap_of(text) for text in gap or []}
    except ValueError as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    settings = RunnerSettings()
    here = resuming.status_of(settings, process)
    if here is not None and here.state != "halted":
        raise CommandFailed(f"{process} has not stopped on purpose: it is {here.state.replace('_', ' ')}")
    stops = Stops(CliSettings().kafka, process)
    stop = unanswered(asyncio.run(stops.noted()))
    if stop is None and here is None:
        raise CommandFailed(f"{process} has not stopped on purpose, or has gone on since")
    if stop is not None:
        if named != set(stop.gaps) or from_start != bool(stop.reread):
            raise _refusal(stop, json)
        asyncio.run(stops.note_accepted(stop, reason, _operator()))
    elif named or from_start:
        raise CommandFailed(f"{process} has noted nothing to be named; expected: hydra resume {process}")
    answer: dict[str, Any] = {
        "process": process,
        "accepted": [gap_text(one) for one in sorted(named)],
        "from_start": from_start,
        "started": here is not None,
    }
    if here is None:
        _tell(answer, json, f"Recorded. Start {process} again where it runs, and it goes on.")
        return
    after = resuming.start_again(settings, process)
    answer |= {"state": after.state if after else "stopped", "reason": after.reason if after else ""}
    _tell(answer, json, f"{process} is {answer['state'].replace('_', ' ')}. {answer['reason']}".strip())
    if after is None or after.state == "halted":
        raise typer.Exit(EXIT_REFUSED)


def _refusal(stop: StopNoted, json: bool) -> Exception:
    command = command_to_go_on(stop.process, stop.gaps, stop.reread)
    if json:
        show_json({
            "process": stop.process,
            "stopped_at": stop.at.isoformat(),
            "reason": stop.reason,
            "gaps": [gap_text(one) for one in stop.gaps],
            "reread": [f"{one.topic}/{one.partition}" for one in stop.reread],
            "to_go_on": command,
        })  # fmt: skip
        return typer.Exit(EXIT_REFUSED)
    lines = [f"{stop.process} stopped at {stop.at:%Y-%m-%d %H:%M:%S} UTC: {stop.reason}"]
    lines += [
        f"  lost for ever: {one.topic} partition {one.partition}, offsets {one.first_offset} to {one.last_offset}"
        for one in stop.gaps
    ]
    lines += [f"  to be read again: {one.topic} partition {one.partition}" for one in stop.reread]
    return CommandFailed("\n".join([*lines, f"To go on, type exactly: {command}"]))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"  # a container's user may have no name


def _tell(answer: dict[str, Any], json: bool, sentence: str) -> None:
    if json:
        show_json(answer)
    else:
        out.print(sentence, markup=False)
