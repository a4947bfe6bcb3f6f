"""Lifecycle's tables as they are now. Migrations make them; a test holds both to each other."""

from __future__ import annotations

import sqlalchemy as sa

from adapters.database.column_types import UtcInstant

LIFECYCLE = sa.MetaData()

platform = sa.Table(
    "platform",
    LIFECYCLE,
    # One row. Every writing transaction locks it first, so that decisions follow each other, whoever takes them.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("shared_deployed_at", UtcInstant, nullable=True),
)

services = sa.Table(
    "services",
    LIFECYCLE,
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
    # The last DeploymentState in JSON, so that only a change is published, and a repeat has its version.
    sa.Column("published", sa.Text, nullable=True),
    sa.Index(
        "services_name_in_use",
        "account",
        "name",
        unique=True,
        sqlite_where=sa.text("status <> 'deleted'"),
        postgresql_where=sa.text("status <> 'deleted'"),
    ),
)

instances = sa.Table(
    "instances",
    LIFECYCLE,
    sa.Column("instance", sa.String(16), primary_key=True),
    sa.Column("service_id", sa.String(16), sa.ForeignKey("services.service_id"), nullable=False, index=True),
    sa.Column("node", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("wanted", sa.String(16), nullable=False),
    sa.Column("created", UtcInstant, nullable=False),
    # The newest heartbeat heard, what it said, and the last epoch in which the engine was ready.
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
    # domain.billable_time.Meter in JSON; `intervals` holds what it has led to.
    sa.Column("meter", sa.Text, nullable=False),
)

intervals = sa.Table(
    "intervals",
    LIFECYCLE,
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
    # Each interval names the end of the one before it and begins no earlier: none of an instance can overlap.
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

nodes = sa.Table(
    "nodes",
    LIFECYCLE,
    sa.Column("node", sa.String(16), primary_key=True),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("sent", UtcInstant, nullable=False),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("engine", sa.String(16), nullable=False),
    sa.Column("gpu", sa.String(32), nullable=False),
    sa.Column("gpus", sa.Integer, nullable=False),
    sa.Column("memory_gb", sa.Integer, nullable=False),
    # What its agent says it runs, as JSON.
    sa.Column("instances", sa.Text, nullable=False),
)

heartbeat_offsets = sa.Table(
    "heartbeat_offsets",
    LIFECYCLE,
    # Committed in the transaction that applied the heartbeats before it, so none is lost or half applied.
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)
