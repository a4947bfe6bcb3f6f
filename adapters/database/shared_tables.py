"""The tables that every control service's database has: outbox, the relay's lease, idempotency keys.

A service's first migration calls `create_shared_tables_v1`; a change here needs a new function, called by a new one.
"""

from __future__ import annotations

from typing import Protocol

import sqlalchemy as sa

from adapters.database.column_types import UtcInstant

SHARED = sa.MetaData()

_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

outbox = sa.Table(
    "outbox",
    SHARED,
    # Never reused on SQLite either: the order of positions is the order of a key's states.
    sa.Column("position", _POSITION, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("key", sa.String(256), nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=True),
    sa.Column("sent_at", UtcInstant, nullable=True),
    sa.Index(
        "outbox_unsent",
        "position",
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    ),
    sa.Index("outbox_sent_at", "sent_at"),
    sa.Index("outbox_key", "topic", "key", "position"),
    sqlite_autoincrement=True,
)

outbox_lease = sa.Table(
    "outbox_lease",
    SHARED,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(64), nullable=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    SHARED,
    sa.Column("scope", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.Column("expires", UtcInstant, nullable=False),
    sa.Index("idempotency_keys_expires", "expires"),
)


class Operations(Protocol):
    """What is used here of `alembic.op`."""

    def get_bind(self) -> sa.Connection: ...


def create_shared_tables_v1(op: Operations) -> None:
    """Create the three tables and the lease's one row."""
    bind = op.get_bind()
    SHARED.create_all(bind)
    bind.execute(outbox_lease.insert().values(id=1, epoch=0, holder=None, beat=0))
