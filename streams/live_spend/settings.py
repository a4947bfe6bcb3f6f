"""Settings of live_spend, read once at its start. Prefix HYDRA_LIVE_SPEND_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from streams.settings import StreamSettings


class LiveSpendSettings(StreamSettings):
    """`group` is Faust's application id. Changed balances are published every `publish_every_s` seconds."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_LIVE_SPEND_", frozen=True, extra="ignore")

    port: int = 8014
    group: str = "hydra.live_spend"
    publish_every_s: float = Field(default=0.1, gt=0, le=10)
    session_timeout_s: float = Field(default=15.0, ge=6, le=300)
