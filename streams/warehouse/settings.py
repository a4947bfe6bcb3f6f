"""Settings of the warehouse, read once at its start. Prefix HYDRA_WAREHOUSE_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from streams.settings import StreamSettings


class WarehouseSettings(StreamSettings):
    """A batch is written at once when it is full, and no sooner than `batch_every_s` after the one before it.

    `progress_every_s`: how often partitions in which nothing happens are noted as read to their end (`as_of`).
    `open_matters_every_s`: how often parked messages and conflicts are counted for /metrics.
    """

    model_config = SettingsConfigDict(env_prefix="HYDRA_WAREHOUSE_", frozen=True, extra="ignore")

    port: int = 8013
    group: str = "hydra.warehouse"
    # Each batch has its questions and its totals, whatever its size: so a backlog goes in large ones.
    batch_records_max: int = Field(default=10_000, ge=1, le=50_000)
    batch_every_s: float = Field(default=0.1, ge=0, le=0.5)
    progress_every_s: float = Field(default=2.0, gt=0, le=60)
    open_matters_every_s: float = Field(default=15.0, gt=0, le=600)
