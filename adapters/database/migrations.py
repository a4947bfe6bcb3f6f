"""Runs a service's Alembic migrations at its start; safe when two processes start at once."""

from __future__ import annotations

import zlib
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from adapters.database.engine import Database
from adapters.errors import Misconfigured

_LOCK = zlib.crc32(b"hydra migrations")


async def migrate(database: Database, scripts: Path) -> None:
    """Bring the database to the newest revision under `scripts`/versions, in one transaction.

    SQLite's write lock or an advisory lock of PostgreSQL has a second process wait and then find nothing to do.
    Raises Misconfigured where the database is newer than this release, Unavailable where it does not answer.
    """
    async with database.connection() as connection:
        if database.dialect == "postgresql":
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(_upgrade, scripts)


def _upgrade(connection: sa.Connection, scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    directory = ScriptDirectory.from_config(config)

    def steps(revision: str | tuple[str, ...], context: MigrationContext) -> list[RevisionStep]:
        # What `alembic upgrade head` does, without an env.py that reads settings of its own.
        return directory._upgrade_revs("head", revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, directory, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        try:
            environment.run_migrations()
        except CommandError as error:
            raise Misconfigured(
                f"the database holds a revision that {scripts} does not know; start the release that wrote it"
            ) from error
