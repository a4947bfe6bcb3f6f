"""Services, instances, their intervals, nodes, and how far heartbeats were read."""

import sqlalchemy as sa
from alembic import op

from adapters.database.column_types import UtcInstant
from adapters.database.shared_tables import create_shared_tables_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_shared_tables_v1(op)
    op.create_table(
        "platform",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("shared_deployed_at", UtcInstant, nullable=True),
    )

    op.create_table(
        "services",
        sa.Column("service_id", sa.String(16), primary_key=True),
        sa.Column("account", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("spec", sa.String(32), nullable=False),
        sa.Column("billing", sa.String(16), nullable=False),
        sa.Column("created", UtcInstant, nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("desired", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("ever_ready", sa.Boolean, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("retry_at", UtcInstant, nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("deleted_at", UtcInstant, nullable=True),
        sa.Column("tombstoned", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("published", sa.Text, nullable=True),
    )

    op.create_table(
        "instances",
        sa.Column("instance", sa.String(16), primary_key=True),
        sa.Column("service_id", sa.String(16), sa.ForeignKey("services.service_id"), nullable=False),
        sa.Column("node", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("created", UtcInstant, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("ready_epoch", sa.BigInteger, nullable=False),
        sa.Column("engine", sa.String(16), nullable=True),
        sa.Column("address", sa.String(255), nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("placement_version", sa.BigInteger, nullable=False),
        sa.Column("drain_until", UtcInstant, nullable=True),
        sa.Column("ended_at", UtcInstant, nullable=True),
        sa.Column("tombstoned", sa.Boolean, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
    )

    op.create_table(
        "intervals",
        sa.Column("instance", sa.String(16), sa.ForeignKey("instances.instance"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("period", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("billable_from", UtcInstant, nullable=False),
        sa.Column("billable_until", UtcInstant, nullable=False),
        sa.Column("previous_number", sa.BigInteger, nullable=True),
        sa.Column("previous_until", UtcInstant, nullable=True),
        sa.UniqueConstraint("instance", "sequence", name="intervals_one_event"),
        sa.UniqueConstraint("instance", "number", "billable_until", name="intervals_chain"),
        sa.ForeignKeyConstraint(
            ["instance", "previous_number", "previous_until"],
            ["intervals.instance", "intervals.number", "intervals.billable_until"],
            name="intervals_follow",
        ),
        sa.CheckConstraint("billable_from < billable_until", name="intervals_not_empty"),
        sa.CheckConstraint(
            "(number = 1 AND previous_number IS NULL AND previous_until IS NULL)"
            " OR (number > 1 AND previous_number IS NOT NULL AND previous_until IS NOT NULL"
            " AND previous_number = number - 1 AND previous_until <= billable_from)",
            name="intervals_in_order",
        ),
    )

    op.create_table(
        "nodes",
        sa.Column("node", sa.String(16), primary_key=True),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("sent", UtcInstant, nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("engine", sa.String(16), nullable=False),
        sa.Column("gpu", sa.String(32), nullable=False),
        sa.Column("gpus", sa.Integer, nullable=False),
        sa.Column("memory_gb", sa.Integer, nullable=False),
        sa.Column("instances", sa.Text, nullable=False),
    )

    op.create_table(
        "heartbeat_offsets",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "services_name_in_use",
        "services",
        ["account", "name"],
        unique=True,
        sqlite_where=sa.text("status <> 'deleted'"),
        postgresql_where=sa.text("status <> 'deleted'"),
    )
    op.create_index("ix_instances_service_id", "instances", ["service_id"])
    op.create_index("ix_instances_state", "instances", ["state"])
    op.execute("INSERT INTO platform (id, shared_deployed_at) VALUES (1, NULL)")


def downgrade() -> None:
    """There is none: what was billed must stay known."""
    raise RuntimeError("lifecycle's database is never taken back; restore a backup instead")
