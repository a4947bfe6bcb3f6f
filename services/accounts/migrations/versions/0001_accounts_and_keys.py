"""Accounts, API keys, and the tables that every control service has."""

import sqlalchemy as sa
from alembic import op

from adapters.database.column_types import ExactDecimal, UtcInstant
from adapters.database.shared_tables import create_shared_tables_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_shared_tables_v1(op)
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("spend_limit", ExactDecimal, nullable=True),
        sa.Column("created", UtcInstant, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("account", sa.String(16), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("masked", sa.String(32), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created", UtcInstant, nullable=False),
        sa.Column("last_used", UtcInstant, nullable=True),
        sa.Column("deleted_at", UtcInstant, nullable=True),
        sa.Column("tombstoned", sa.Boolean, nullable=False),
    )
    op.create_index("api_keys_account", "api_keys", ["account", "created", "id"])
