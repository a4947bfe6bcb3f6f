"""Settings that every process shares. A process adds a class of its own with its own prefix, read once at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class PlatformSettings(BaseSettings):
    """Prefix `HYDRA_`. `home` holds all state of this platform; nothing is written outside it."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_", frozen=True, extra="ignore")

    home: Path = Path(".hydra")
    config_dir: Path = Path("config")
    kafka_bootstrap: str = "127.0.0.1:9092"
    clickhouse_url: str = "http://127.0.0.1:8123"
    clickhouse_database: str = "hydra"
    time_zone: str = "Asia/Shanghai"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    clock_offsets: Path | None = Field(
        default=None,
        description="a folder with a file per process, the seconds by which a test moves its wall clock; else unset",
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone of the tz database; try Asia/Shanghai or UTC") from error
        return name

    @field_validator("home", "config_dir", "clock_offsets")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.absolute() if path is not None else None

    @property
    def secrets_dir(self) -> Path:
        """The folder (0700) of the files (0600) that hold secrets."""
        return self.home / "secrets"
