"""The tables of accounts and keys, as the newest migration leaves them."""

from __future__ import annotations

import sqlalchemy as sa

from adapters.database.column_types import ExactDecimal, UtcInstant

METADATA = sa.MetaData()

accounts = sa.Table(
    "accounts",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("spend_limit", ExactDecimal, nullable=True),
    sa.Column("created", UtcInstant, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("account", sa.String(16), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    # The key itself is stored nowhere.
    sa.Column("key_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("masked", sa.String(32), nullable=False),
    sa.Column("scopes", sa.String(100), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created", UtcInstant, nullable=False),
    sa.Column("last_used", UtcInstant, nullable=True),
    sa.Column("deleted_at", UtcInstant, nullable=True),
    sa.Column("tombstoned", sa.Boolean, nullable=False, default=False),
    sa.Index("api_keys_account", "account", "created", "id"),
)
