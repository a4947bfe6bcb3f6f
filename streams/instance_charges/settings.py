"""Settings of instance_charges, read once at its start. Prefix HYDRA_INSTANCE_CHARGES_."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from streams.settings import StreamSettings


class InstanceChargesSettings(StreamSettings):
    """See StreamSettings."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_INSTANCE_CHARGES_", frozen=True, extra="ignore")

    port: int = 8012
    group: str = "hydra.instance_charges"
