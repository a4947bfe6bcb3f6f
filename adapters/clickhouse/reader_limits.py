"""What those who only read ClickHouse may do: the one source of these limits.

The embedded server holds its readers to them itself; on a server with SQL access control they become settings
profiles, quotas and row policies (sql_users.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.clickhouse.client import ANALYST, BILLING

MIB = 1_048_576
_ACCOUNT = re.compile(r"u-[0-9a-f]{12}|public")

TABLES_BY_ACCOUNT = ("usage", "instance_events", "charges", "unrated", "event_hashes")
"""Whose rows are one account's. Not `conflicting_events`: it holds ids alone, and a view that could not see all of them
would count charges that are in conflict with another account's."""
TABLES_OF_ALL = ("parked", "parked_replays")
"""Whose rows may be about any account: for a reader of some accounts they are empty."""


@dataclass(frozen=True)
class ReaderLimits:
    """The limits of one reader. Sizes are bytes, times seconds, 0 is no limit; no `accounts` are all accounts."""

    user: str
    time_max_s: int
    memory_bytes_max: int
    rows_read_max: int
    result_rows_max: int
    result_bytes_max: int
    concurrent_queries_max: int
    queries_per_hour_max: int
    accounts: tuple[str, ...] = ()

    def engine_settings(self) -> dict[str, str | int]:
        """ClickHouse's settings for one query; what meets one of them is an error, never half an answer."""
        return {
            "max_execution_time": self.time_max_s,
            "timeout_overflow_mode": "throw",
            "max_memory_usage": self.memory_bytes_max,
            "max_rows_to_read": self.rows_read_max,
            "read_overflow_mode": "throw",
            "max_result_rows": self.result_rows_max,
            "max_result_bytes": self.result_bytes_max,
            "result_overflow_mode": "throw",
            "max_bytes_before_external_group_by": 0,
            "max_bytes_before_external_sort": 0,
            # Rows of one id are in one partition: FINAL need not look for them in the others.
            "do_not_merge_across_partitions_select_final": 1,
        }

    def question_settings(self) -> dict[str, str | int]:
        """For a server without readers: what goes with each question of its owner, who then writes nothing either."""
        return {"readonly": 1, **self.engine_settings()}

    def row_conditions(self) -> dict[str, str]:
        """By table of the database, which of its rows the reader sees: the condition of a row policy."""
        if not self.accounts:
            return dict.fromkeys((*TABLES_BY_ACCOUNT, *TABLES_OF_ALL), "1")
        named = ", ".join(f"'{account}'" for account in self.accounts)
        return dict.fromkeys(TABLES_BY_ACCOUNT, f"account IN ({named})") | dict.fromkeys(TABLES_OF_ALL, "0")


class AnalystSettings(BaseSettings):
    """Prefix `HYDRA_CLICKHOUSE_ANALYST_`: what people may ask by the user `analyst`. All their questions together must
    leave memory for inserts."""

    model_config = SettingsConfigDict(env_prefix="HYDRA_CLICKHOUSE_ANALYST_", frozen=True, extra="ignore")

    time_max_s: int = Field(default=30, ge=1)
    memory_bytes_max: int = Field(default=500 * MIB, ge=16 * MIB)
    rows_read_max: int = Field(default=500_000_000, ge=1)
    result_rows_max: int = Field(default=100_000, ge=1)
    result_bytes_max: int = Field(default=128 * MIB, ge=1_024)
    concurrent_queries_max: int = Field(default=2, ge=1)
    queries_per_hour_max: int = Field(default=3_600, ge=1)
    accounts: str = Field(default="", description="accounts whose rows it sees, with commas between; none: all")

    @field_validator("accounts")
    @classmethod
    def _accounts(cls, text: str) -> str:
        for account in _named(text):
            if not _ACCOUNT.fullmatch(account):
                raise ValueError(f"{account[:64]!r} is no account (u-<12 hex>, or public)")
        return text

    def limits(self) -> ReaderLimits:
        """As every reader has them."""
        return ReaderLimits(user=ANALYST, **(self.model_dump() | {"accounts": _named(self.accounts)}))


def _named(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


BILLING_LIMITS = ReaderLimits(
    user=BILLING,
    time_max_s=30,
    memory_bytes_max=1_500 * MIB,
    # A bill must not fail by how much an account has used: its time and memory bound it.
    rows_read_max=0,
    result_rows_max=1_000_000,
    result_bytes_max=128 * MIB,
    concurrent_queries_max=8,
    queries_per_hour_max=0,
)
"""Billing's own reader. Its questions are fixed (billing_questions.py), so nothing here needs to be set."""
