"""Instances are found among more names than one statement may carry: as many as all nodes together may list."""

from datetime import UTC, datetime

import sqlalchemy as sa

from adapters.clock import SystemClock
from adapters.database.engine import Database
from domain.deployment import Service
from services.lifecycle import tables
from services.lifecycle.records import (
    InstanceRecord,
    ServiceRecord,
    instance_values,
    instances_by_name,
    service_values,
)
from services.lifecycle.storage import Storage

CREATED = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SERVICE = Service(
    service_id="s-0123456789ab",
    account="u-0123456789ab",
    name="test",
    model="phi-4",
    region="sh-02",
    spec="l20-1x48g",
    billing="time",
    created=CREATED,
    replicas=1,
)
KNOWN = InstanceRecord(instance="i-0123456789ab", service_id=SERVICE.service_id, node="n-0123456789ab", created=CREATED)


async def test_more_names_than_a_statement_takes(database_url: str) -> None:
    database = Database(database_url)
    storage = Storage(database, SystemClock())
    await storage.migrate()
    async with database.transaction() as session:
        await session.execute(tables.services.insert().values(**service_values(ServiceRecord(service=SERVICE))))
        await session.execute(tables.instances.insert().values(**instance_values(KNOWN)))
    asked: list[int] = []

    @sa.event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def count(connection: object, cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        if "FROM instances" in statement:
            asked.append(len(parameters))

    unknown = [f"i-{number:012x}" for number in range(36_864)]
    async with storage.reading() as session:
        # Named in the first part and in the last, and found once.
        assert await instances_by_name(session, [KNOWN.instance, *unknown, KNOWN.instance]) == [KNOWN]
    # SQLite may take more than PostgreSQL, as it was built.
    assert max(asked) <= 10_000
    assert sum(asked) == 36_865
    await database.close()
