"""The shared tables and one of the tests' own."""

import sqlalchemy as sa
from alembic import op

from adapters.database.shared_tables import create_shared_tables_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_shared_tables_v1(op)
    op.create_table("things", sa.Column("name", sa.String(40), primary_key=True), sa.Column("count", sa.Integer))
