"""Where the command finds the platform, and as whom it calls."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from runner.settings import PROJECT


class CliSettings(BaseSettings):
    """Prefix `HYDRA_`. Addresses follow the ports of the local platform unless they are set themselves.

    Where no platform was started on this machine, `hydra status` asks every process at its HYDRA_<PROCESS>_URL: more
    than one, with commas between, where it runs under several names.

    Without `api_key` the operator's token of `home` is used; with it, the command acts as that customer.
    """

    model_config = SettingsConfigDict(env_prefix="HYDRA_", frozen=True, extra="ignore")

    home: Path = PROJECT / ".hydra"
    gateway_port: int = 8000
    accounts_port: int = 8001
    lifecycle_port: int = 8002
    billing_port: int = 8003
    clickhouse_port: int = 8123
    kafka_port: int = 9092
    gateway_url: str = ""
    accounts_url: str = ""
    lifecycle_url: str = ""
    billing_url: str = ""
    clickhouse_url: str = ""
    kafka_bootstrap: str = ""
    clickhouse_database: str = "hydra"
    api_key: SecretStr | None = None
    request_timeout_s: float = 30.0

    def url(self, service: str) -> str:
        """The base address of `gateway`, `accounts`, `lifecycle`, `billing` or `clickhouse`, without a final slash."""
        given: str = getattr(self, f"{service}_url")
        return (given or f"http://127.0.0.1:{getattr(self, f'{service}_port')}").rstrip("/")

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address."""
        return self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}"
