"""Accounts' settings, prefix `HYDRA_ACCOUNTS_`, read once in `__main__`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AccountsSettings(BaseSettings):
    """`database_url` is `postgresql://...` or `sqlite:///<path>`; by default SQLite in the platform's own folder.

    The password of a `postgresql://user@host/name` is in `database_password_file` rather than in the environment.
    `keys_max` bounds an account's keys that are not deleted. Times in seconds.
    """

    model_config = SettingsConfigDict(env_prefix="HYDRA_ACCOUNTS_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=0, le=65_535)
    database_url: str | None = None
    database_password_file: Path | None = Field(
        default=None, description="a file with PostgreSQL's password alone; `database_url` then holds none"
    )
    currency: str = Field(default="CNY", pattern=r"^[A-Z]{3}$")
    keys_max: int = Field(default=1_000, ge=1, le=100_000)
    republish_every_s: float = Field(default=3_600.0, ge=1, le=86_400)
    last_used_every_s: float = Field(default=2.0, ge=0.1, le=3_600)
    idempotency_keep_s: float = Field(default=86_400.0, ge=60, le=2_592_000)

    def database(self, home: Path) -> str:
        """The database's URL: the setting, or SQLite in the platform's own folder."""
        return self.database_url or f"sqlite:///{home / 'accounts' / 'accounts.db'}"
