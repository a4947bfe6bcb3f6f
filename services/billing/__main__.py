"""Billing's process: settings, wiring, serve."""

from __future__ import annotations

import logging
import sys
from zoneinfo import ZoneInfo

from adapters import secret_files
from adapters.api_keys import ApiKeys
from adapters.catalogue_text import load_catalogue
from adapters.clock import SystemClock
from adapters.http_service import create_app, serve_app
from adapters.kafka.producer import EventProducer
from adapters.price_text import FILE_NAME, load_prices, unpriced
from adapters.process import run_process
from adapters.settings import PlatformSettings
from services.billing.periods import Periods
from services.billing.price_recorder import PriceRecorder
from services.billing.questions import WarehouseWatch
from services.billing.reader import reader
from services.billing.routes import BillingRoutes
from services.billing.settings import BillingSettings

logger = logging.getLogger("services.billing")

DESCRIPTION = """Usage, charges, bills and prices of Hydra, read-only. A customer's key needs the scope `billing` and
sees its own account; the operator names one by `account`. Every answer says how far it has come (`as_of`) and is CSV
on `Accept: text/csv`. Decimals are strings in fixed point."""


async def serve(platform: PlatformSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises Misconfigured, or StopOnPurpose where the price text was edited."""
    settings, clock = BillingSettings(), SystemClock()
    operator_token = secret_files.read(platform.secrets_dir, secret_files.OPERATOR_TOKEN)
    catalogue = load_catalogue(platform.config_dir)
    prices = load_prices(platform.config_dir, catalogue)
    for price_id in unpriced(catalogue, prices):
        logger.warning("no price: usage will wait unrated", extra={"price": price_id})
    clickhouse, note = reader(platform, settings.clickhouse_user)
    producer = EventProducer(platform.kafka_bootstrap)
    recorder = PriceRecorder(platform.kafka_bootstrap, producer, clock, prices, platform.config_dir / FILE_NAME)
    watch = WarehouseWatch(clickhouse, every_s=settings.check_every_s)
    api_keys = ApiKeys(platform.kafka_bootstrap, operator_token)
    app = create_app(
        title="Hydra billing",
        description=DESCRIPTION,
        api_keys=api_keys,
        reasons=[lambda: recorder.reason, lambda: watch.reason],
        note=note,
    )
    periods = Periods(ZoneInfo(platform.time_zone), settings.range_days_max)
    app.include_router(BillingRoutes(clickhouse, clock, periods, recorder).router())
    try:
        await serve_app(
            app,
            host=settings.host,
            port=settings.port,
            port_setting="HYDRA_BILLING_PORT",
            background=[api_keys.run(), recorder.run(), watch.run()],
        )
    finally:
        await producer.stop()
        await clickhouse.close()


if __name__ == "__main__":
    sys.exit(run_process("billing", serve))
