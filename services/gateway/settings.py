"""The gateway's settings, prefix `HYDRA_GATEWAY_`. Every bound of the data plane is one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Sizes in bytes, times in seconds. What a bound refuses, and how, stands in docs/gateway.md."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_GATEWAY_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    id: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,40}$", description="drawn at each start where unset")
    domain: str | None = Field(
        default=None, description="chat.<domain> serves public/*, <region>.<domain> that region's u-*/*"
    )
    reuse_port: bool = Field(default=False, description="several gateways on one port")
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    spool_root: Path | None = Field(default=None, description="where unset: HYDRA_HOME/gateway/spools")
    spool_sync: Literal["write", "fdatasync"] = "write"
    spool_bytes_max: int = Field(default=1 << 30, ge=1 << 20)
    spool_segment_bytes: int = Field(default=8 << 20, ge=1 << 16)
    adoption_interval_s: float = Field(default=15.0, gt=0)
    publish_batch_max: int = Field(default=1000, ge=1)
    publish_bytes_max: int = Field(default=4 << 20, ge=1 << 16)

    snapshot_interval_s: float = Field(default=30.0, gt=0)
    kafka_wait_s: float = Field(default=15.0, gt=0, description="a start goes on with the snapshot after this")
    state_age_max_s: float = Field(
        default=3600.0, gt=0, description="older knowledge of keys and services than this is refused"
    )

    connections_max: int = Field(default=10_000, ge=1)
    in_flight_max: int = Field(default=4_096, ge=1)
    pool_size_per_instance: int = Field(default=512, ge=1)
    pool_idle_s: float = Field(default=4.0, gt=0, description="an idle connection to an engine is closed after this")
    pipeline_max: int = Field(default=16, ge=1)
    header_bytes_max: int = Field(default=32 << 10, ge=1024)
    body_bytes_max: int = Field(default=16 << 20, ge=1024)
    body_values_max: int = Field(
        default=500_000,
        ge=1000,
        description="lists and objects in one request's body: its `[` and `{` are counted, also those in text",
    )
    body_bytes_total_max: int = Field(
        default=512 << 20, ge=1024, description="request bodies held at one time, all together"
    )
    answer_bytes_max: int = Field(default=64 << 20, ge=1024)
    answer_bytes_total_max: int = Field(
        default=512 << 20, ge=1024, description="unstreamed answers held at one time, all together"
    )
    event_bytes_max: int = Field(default=8 << 20, ge=1024, description="one server-sent event of an engine")

    request_read_timeout_s: float = Field(default=60.0, gt=0)
    idle_timeout_s: float = Field(default=75.0, gt=0)
    client_write_timeout_s: float = Field(
        default=60.0, gt=0, description="a client that reads nothing for so long is gone"
    )
    client_pauses_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="all the time of one request in which its client does not read; then it is gone",
    )
    linger_s: float = Field(default=2.0, gt=0)
    connect_timeout_s: float = Field(default=3.0, gt=0)
    first_byte_timeout_s: float = Field(default=600.0, gt=0)
    between_bytes_timeout_s: float = Field(default=120.0, gt=0)
    request_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="one inference request from first to last byte, less the time in which its client does not read",
    )
    abort_wait_s: float = Field(
        default=10.0, gt=0, le=10, description="for an engine's last report after its client has gone"
    )
    attempts_max: int = Field(default=2, ge=1)
    cooldown_s: float = Field(default=5.0, gt=0)
    coalesce_ms: float = Field(
        default=10.0,
        ge=0,
        le=100,
        description="chunks of one stream that come closer together than this leave together; 0: each by itself",
    )
    # With `abort_wait_s` it ends within the time before a SIGKILL, runner/processes.py.
    drain_s: float = Field(default=10.0, ge=0, le=60, description="for running requests, once it is asked to stop")
    engine_priority: int | None = Field(default=None, description="sent to engines started with priority scheduling")
    image_urls_allowed: bool = False

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set both HYDRA_GATEWAY_TLS_CERTIFICATE and HYDRA_GATEWAY_TLS_KEY, or neither")
        for path in (self.tls_certificate, self.tls_key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}")
        return self
