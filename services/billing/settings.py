"""Billing's settings, prefix `HYDRA_BILLING_`, read once in `__main__`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BillingSettings(BaseSettings):
    """`range_days_max` bounds what one question may span; `check_every_s` is how often ClickHouse is looked at,
    as `clickhouse_user`: `found` is the user that the step `analyst` has found, `billing` where it could be made, and
    `hydra`, with billing's limits in each question, on a server without access control."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_BILLING_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8003, ge=0, le=65_535)
    range_days_max: int = Field(default=400, ge=1, le=10_000)
    check_every_s: float = Field(default=5.0, ge=0.1, le=3_600)
    clickhouse_user: Literal["found", "billing", "hydra"] = "found"
