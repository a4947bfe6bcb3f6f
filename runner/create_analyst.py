"""The platform's step after ClickHouse's start: makes its readers SQL users where it has such, and ends.

What it has found stands in the platform's folder `access`, from which billing knows whom it reads as.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, ClickHouseAddress
from adapters.clickhouse.found_access import keep
from adapters.clickhouse.reader_limits import BILLING_LIMITS, AnalystSettings
from adapters.clickhouse.sql_users import Reader, make_sql_users, statements_for
from adapters.errors import EXIT_MISCONFIGURED, Misconfigured, Unavailable
from adapters.settings import PlatformSettings
from adapters.telemetry import configure_logging


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, the last line saying what holds the analyst; else 1 with one line that names the cause.

    With `--print` it shows the statements, for whoever would rather run them by hand, and asks nothing.
    """
    platform = PlatformSettings()
    configure_logging("analyst", platform.log_level)
    try:
        address = ClickHouseAddress.with_password_file(
            platform.clickhouse_url,
            ADMIN,
            platform.secrets_dir / secret_files.CLICKHOUSE_ADMIN_PASSWORD,
            platform.clickhouse_database,
        )
        analyst, billing = (
            Reader(limits, secret_files.read(platform.secrets_dir, name))
            for limits, name in (
                (AnalystSettings().limits(), secret_files.ANALYST_PASSWORD),
                (BILLING_LIMITS, secret_files.BILLING_PASSWORD),
            )
        )
        if "--print" in arguments:
            for statement in statements_for(analyst, address.database) + statements_for(billing, address.database):
                print(f"{statement};")
            return 0
        found = asyncio.run(make_sql_users(address, analyst, billing))
        keep(platform.home, found, address.password)
        logging.info("%s", found.analyst)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        logging.error("the setting HYDRA_CLICKHOUSE_ANALYST_%s is wrong: %s", name, first["msg"])
        return EXIT_MISCONFIGURED
    except (Unavailable, Misconfigured, OSError) as error:
        logging.error("%s", error)
        return EXIT_MISCONFIGURED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
