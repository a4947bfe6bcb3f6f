"""As whom billing reads ClickHouse."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, BILLING, ClickHouse, ClickHouseAddress
from adapters.clickhouse.found_access import found_access, owners_password_file
from adapters.clickhouse.reader_limits import BILLING_LIMITS
from adapters.settings import PlatformSettings

logger = logging.getLogger(__name__)


def reader(platform: PlatformSettings, user: Literal["found", "billing", "hydra"]) -> tuple[ClickHouse, str]:
    """ClickHouse as the user that only reads, and a note for the operator where there is no such user.

    Its limits are not the analyst's, which are meant for people, and by which a bill must not fail. On a server without
    users its owner reads: then they go with each question. Raises Misconfigured where a file is missing or wrong.
    """
    name, password_file = login(platform.home, user)
    address = ClickHouseAddress.with_password_file(
        platform.clickhouse_url, name, password_file, platform.clickhouse_database
    )
    if name == BILLING:
        return ClickHouse(address), ""
    note = f"reads ClickHouse as {name}, each question read-only and within billing's limits"
    logger.warning(note)
    return ClickHouse(address, settings=BILLING_LIMITS.question_settings()), note


def login(home: Path, user: Literal["found", "billing", "hydra"]) -> tuple[str, Path]:
    """The user and the file of its password. `found`: as the step `analyst` has found it; where it has never run,
    `billing`."""
    if user == "found":
        found = found_access(home)
        if found is not None and found.billing_user == ADMIN:
            return ADMIN, owners_password_file(home)
        user = BILLING
    names = {ADMIN: secret_files.CLICKHOUSE_ADMIN_PASSWORD, BILLING: secret_files.BILLING_PASSWORD}
    return user, home / "secrets" / names[user]
