"""Settings of the embedded ClickHouse, read once at its start. Every queue, body, time and result has a bound here.

Those of its readers are in adapters/clickhouse/reader_limits.py, for a server of one's own has them too.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1_048_576


class ClickHouseSettings(BaseSettings):
    """Prefix `HYDRA_CLICKHOUSE_`. Sizes are bytes, times seconds."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_CLICKHOUSE_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8123, ge=1, le=65_535)
    connections_max: int = Field(default=256, ge=1)
    stop_grace_s: int = Field(
        default=15, ge=1, le=15, description="queries that run when it is stopped are broken off after this"
    )

    # One request. Clients send long statements in the URL, as ClickHouse's own server allows.
    head_bytes_max: int = Field(default=MIB, ge=8_192)
    head_time_max_s: float = Field(default=20, gt=0)
    body_bytes_max: int = Field(default=64 * MIB, ge=1_024)
    body_time_max_s: float = Field(default=300, gt=0)
    statement_bytes_max: int = Field(default=262_144, ge=1_024)
    query_time_max_s: int = Field(default=300, ge=1)
    answer_time_max_s: float = Field(default=600, gt=0)
    buffered_answer_bytes_max: int = Field(default=128 * MIB, ge=1_024)

    # All requests together.
    concurrent_queries_max: int = Field(default=16, ge=1)
    queue_wait_s: float = Field(default=30, ge=0)
    memory_bytes_max: int = Field(default=2_000 * MIB, ge=256 * MIB)
    sessions_max: int = Field(default=64, ge=1)
    session_idle_s: float = Field(default=600, gt=0)
    keep_free_bytes: int = Field(
        default=256 * MIB, ge=0, description="with less room on the disk nothing is written, merges included"
    )
    fsync_inserts: bool = False
    """True makes an acknowledged insert survive power loss too; without it it survives kill -9."""
