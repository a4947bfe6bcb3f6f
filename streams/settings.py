"""What the settings of every stream have; each stream adds its prefix, its port and its group."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class StreamSettings(BaseSettings):
    """`port` serves health and metrics on `host`. `group` is the Kafka consumer group whose offsets are the progress.

    `batch_records_max` bounds what one batch holds in memory; `kafka_timeout_s` bounds a wait for Kafka. A member of
    the group that is silent for `session_timeout_s` loses its partitions to the others.
    """

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65_535)
    group: str = Field(min_length=1)
    batch_records_max: int = Field(default=2_000, ge=1, le=50_000)
    kafka_timeout_s: float = Field(default=30.0, gt=0, le=300)
    session_timeout_s: float = Field(default=15.0, ge=6, le=1_800)
    lag_every_s: float = Field(default=5.0, gt=0, le=300)
