"""Settings of token_charges, read once at its start. Prefix HYDRA_TOKEN_CHARGES_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from streams.settings import StreamSettings


class TokenChargesSettings(StreamSettings):
    """See StreamSettings."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_TOKEN_CHARGES_", frozen=True, extra="ignore")

    port: int = 8011
    group: str = "hydra.token_charges"
    batch_records_max: int = Field(default=5_000, ge=1, le=50_000)
