"""`hydra sql`: the analysts' views, as the read-only analyst."""

from __future__ import annotations

import sys
from typing import Annotated

import httpx
import typer

from adapters import secret_files
from cli.failures import EXIT_UNREACHABLE, CommandFailed
from cli.options import Json
from cli.output import err
from cli.settings import CliSettings

HELP = """Type a query and end it with a semicolon; \\d lists the views, \\d NAME its columns, \\q leaves."""


def add_to(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command(
        "sql",
        epilog="Examples: hydra sql (asks for queries); hydra sql 'SELECT * FROM v_spend_daily LIMIT 10'; "
        "hydra sql --json < question.sql. docs/analysts.md has ten questions and their answers.",
    )(sql)


def sql(
    query: Annotated[
        str | None, typer.Argument(help="One read-only statement; without it, asked for or from stdin.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Any output format of ClickHouse, for example CSVWithNames.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask the warehouse as the read-only analyst (limits on time, memory and rows apply)."""
    shown = format or ("JSON" if json else "PrettyCompact")
    settings = CliSettings()
    if query is None and sys.stdin.isatty():
        _converse(settings, shown)
        return
    sys.stdout.write(_answer(settings, query if query is not None else sys.stdin.read(), shown))


def _converse(settings: CliSettings, format: str) -> None:
    err.print(HELP, markup=False)
    lines: list[str] = []
    while True:
        try:
            line = input("hydra> " if not lines else "    -> ").strip()
        except EOFError:
            return
        if line in ("\\q", "exit", "quit"):
            return
        if line.startswith("\\d"):
            name = line[2:].strip()
            lines = [f"DESCRIBE TABLE `{name.replace('`', '')}`;" if name else "SHOW TABLES;"]
        elif line:
            lines.append(line)
        if lines and lines[-1].endswith(";"):
            try:
                sys.stdout.write(_answer(settings, "\n".join(lines), format))
            except CommandFailed as failure:
                err.print(str(failure), style="red", markup=False)
            lines = []


def _answer(settings: CliSettings, query: str, format: str) -> str:
    password = secret_files.read(settings.home / "secrets", secret_files.ANALYST_PASSWORD)
    try:
        answer = httpx.post(
            settings.url("clickhouse"),
            params={"database": settings.clickhouse_database, "default_format": format},
            content=query.strip().rstrip(";").encode(),
            headers={"X-ClickHouse-User": "analyst", "X-ClickHouse-Key": password},
            timeout=120,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(
            f"ClickHouse does not answer at {settings.url('clickhouse')} ({type(error).__name__}); see: hydra status",
            EXIT_UNREACHABLE,
        ) from error
    if not answer.is_success:
        raise CommandFailed(answer.text.strip()[:2000])
    return answer.text
