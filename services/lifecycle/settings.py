"""Lifecycle's settings, prefix `HYDRA_LIFECYCLE_`, read once in `__main__`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the reconciler and the commands keep to. Times in seconds."""

    replicas_max: int = 32
    services_max: int = 100
    drain_limit_s: float = 60.0
    write_off_after_s: float = 45.0
    node_silent_after_s: float = 20.0
    node_forgotten_after_s: float = 86_400.0
    start_limit_s: float = 3_600.0


class LifecycleSettings(BaseSettings):
    """Times in seconds. What the gateway is told of its own address holds here too, unless set for lifecycle."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_LIFECYCLE_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8002, ge=0, le=65_535)
    database_url: str | None = Field(
        default=None, description="sqlite:///<path> or postgresql://...; where unset SQLite under HYDRA_HOME/lifecycle"
    )
    database_password_file: Path | None = Field(
        default=None, description="a file with PostgreSQL's password alone; `database_url` then holds none"
    )
    gateway_url: str | None = Field(
        default=None, description="how customers reach the gateway; where unset its port on this machine"
    )
    gateway_port: int = Field(
        default=8000,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("HYDRA_LIFECYCLE_GATEWAY_PORT", "HYDRA_GATEWAY_PORT"),
        description="where unset HYDRA_GATEWAY_PORT",
    )
    gateway_tls_certificate: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("HYDRA_LIFECYCLE_GATEWAY_TLS_CERTIFICATE", "HYDRA_GATEWAY_TLS_CERTIFICATE"),
        description="set: endpoints are https; where unset HYDRA_GATEWAY_TLS_CERTIFICATE",
    )
    domain: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HYDRA_LIFECYCLE_DOMAIN", "HYDRA_GATEWAY_DOMAIN"),
        description="endpoints are `<region>.<domain>` and `chat.<domain>`; where unset HYDRA_GATEWAY_DOMAIN",
    )
    interval_s: int = Field(
        default=50,
        ge=1,
        le=3_600,
        description="ready seconds that gather before an interval is written: charges are behind by that and a little",
    )
    replicas_max: int = Field(default=32, ge=1, le=10_000, description="of one service")
    services_max: int = Field(default=100, ge=1, le=100_000, description="of one account")
    drain_limit_s: float = Field(
        default=60.0, ge=0, le=3_600, description="how long streams may run on, unbilled, after a stop"
    )
    write_off_after_s: float = Field(
        default=45.0, ge=1, le=86_400, description="an instance silent for so long, with Kafka answering, is given up"
    )
    node_silent_after_s: float = Field(
        default=20.0, ge=1, le=86_400, description="a node silent for so long gets no new instances"
    )
    node_forgotten_after_s: float = Field(
        default=86_400.0,
        ge=60,
        le=31_536_000,
        description="a node without instances that was silent for so long is dropped; it is back once it is heard",
    )
    start_limit_s: float = Field(
        default=3_600.0, ge=10, le=86_400, description="an engine that was never ready for so long is given up"
    )
    republish_every_s: float = Field(
        default=3_600.0, ge=1, le=86_400, description="all current state is published again so often"
    )

    @property
    def gateway_address(self) -> str:
        """Scheme, host and port of the gateway as customers are told it; with a domain only the host changes."""
        if self.gateway_url is not None:
            return self.gateway_url
        return f"{'http' if self.gateway_tls_certificate is None else 'https'}://127.0.0.1:{self.gateway_port}"

    def database(self, home: Path) -> str:
        """The database's URL: the setting, or SQLite in the platform's own folder."""
        return self.database_url or f"sqlite:///{home / 'lifecycle' / 'lifecycle.db'}"

    def bounds(self) -> Bounds:
        """The part that decisions are bounded by."""
        return Bounds(
            replicas_max=self.replicas_max,
            services_max=self.services_max,
            drain_limit_s=self.drain_limit_s,
            write_off_after_s=self.write_off_after_s,
            node_silent_after_s=self.node_silent_after_s,
            node_forgotten_after_s=self.node_forgotten_after_s,
            start_limit_s=self.start_limit_s,
        )
