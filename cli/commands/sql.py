"""`hydra sql`: the analysts' views, as the read-only analyst."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import httpx
import typer

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, ANALYST
from adapters.clickhouse.found_access import found_access
from adapters.clickhouse.reader_limits import AnalystSettings
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
    user, secret, limits = _reader(settings)
    password = secret_files.read(settings.home / "secrets", secret)
    try:
        answer = httpx.post(
            settings.url("clickhouse"),
            params={"database": settings.clickhouse_database, "default_format": format, **limits},
            content=query.strip().rstrip(";").encode(),
            headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
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


def _reader(settings: CliSettings) -> tuple[str, str, Mapping[str, str | int]]:
    """Who asks, the name of its password, and the limits that the question itself must carry: none for the analyst.

    On a server without access control the owner asks, with the analyst's limits. Raises CommandFailed where the analyst
    may see some accounts only, since no setting holds the owner to those.
    """
    found = found_access(settings.home)
    if found is None or found.analyst_user == ANALYST:
        return ANALYST, secret_files.ANALYST_PASSWORD, {}
    limits = AnalystSettings().limits()
    if limits.accounts:
        raise CommandFailed(
            f"HYDRA_CLICKHOUSE_ANALYST_ACCOUNTS is set, and this ClickHouse cannot hold to it ({found.analyst})"
        )
    return ADMIN, secret_files.CLICKHOUSE_ADMIN_PASSWORD, limits.question_settings()
