"""The migrations make the tables that the code believes in, and can be run again."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.database.shared_tables import SHARED
from services.lifecycle.storage import Storage
from services.lifecycle.tables import LIFECYCLE


async def test_the_migrated_tables_are_those_of_the_code(database_url: str) -> None:
    database = Database(database_url)
    storage = Storage(database, SystemClock())
    await storage.migrate()
    await storage.migrate()
    everything = sa.MetaData()
    for table in [*SHARED.tables.values(), *LIFECYCLE.tables.values()]:
        table.to_metadata(everything)

    def differences(connection: sa.Connection) -> list[object]:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), everything)
        return [one for one in found if "alembic_version" not in str(one)]

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()
