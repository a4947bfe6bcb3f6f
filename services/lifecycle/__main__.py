"""Runs lifecycle: `python -m services.lifecycle`. Reads settings, wires, serves."""

from __future__ import annotations

import sys

from adapters import secret_files
from adapters.api_keys import ApiKeys
from adapters.catalogue_text import load_catalogue
from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.http_service import serve_app
from adapters.process import run_process
from adapters.settings import PlatformSettings
from services.lifecycle.application import lifecycle_app
from services.lifecycle.prices import ShownPrices
from services.lifecycle.running import Lifecycle
from services.lifecycle.settings import LifecycleSettings


async def _serve(platform: PlatformSettings) -> None:
    settings = LifecycleSettings()
    catalogue = load_catalogue(platform.config_dir)
    token = secret_files.read(platform.secrets_dir, secret_files.OPERATOR_TOKEN)
    database = Database(
        settings.database(platform.home),
        setting="HYDRA_LIFECYCLE_DATABASE_URL",
        password_file=settings.database_password_file,
    )
    try:
        api_keys = ApiKeys(platform.kafka_bootstrap, token)
        lifecycle = Lifecycle(
            database,
            SystemClock(),
            platform.kafka_bootstrap,
            catalogue,
            settings,
            account_closed=api_keys.account_closed,
        )
        await lifecycle.prepare()
        prices = ShownPrices(platform.kafka_bootstrap)
        app = lifecycle_app(lifecycle, catalogue, api_keys, prices, settings)
        async with lifecycle.publishing():
            await serve_app(
                app,
                host=settings.host,
                port=settings.port,
                port_setting="HYDRA_LIFECYCLE_PORT",
                background=(*lifecycle.parts(), api_keys.run(), prices.run()),
            )
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(run_process("lifecycle", _serve))
