"""Accounts' process: settings, wiring, serve."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters import secret_files
from adapters.api_keys import ApiKeys
from adapters.clock import SystemClock
from adapters.database.engine import Database
from adapters.database.idempotency import IdempotencyKeys
from adapters.database.migrations import migrate
from adapters.database.outbox import OutboxRelay
from adapters.http_service import create_app, serve_app
from adapters.kafka.fenced_producer import FencedProducer
from adapters.process import run_process
from adapters.settings import PlatformSettings
from services.accounts.account_changes import ensure_operator_account
from services.accounts.key_changes import KeyMaker
from services.accounts.last_used import LastUsed
from services.accounts.republishing import Republisher
from services.accounts.routes import AccountRoutes
from services.accounts.settings import AccountsSettings

DESCRIPTION = """Accounts and API keys of Hydra. The operator acts with the operator's token, customers with a key
of their own that has the scope `manage`, within their account."""


async def serve(platform: PlatformSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises Misconfigured or Unavailable where it cannot start."""
    settings, clock = AccountsSettings(), SystemClock()
    operator_token = secret_files.read(platform.secrets_dir, secret_files.OPERATOR_TOKEN)
    cluster_secret = secret_files.read(platform.secrets_dir, secret_files.CLUSTER_SECRET)
    database = Database(
        settings.database(platform.home),
        setting="HYDRA_ACCOUNTS_DATABASE_URL",
        password_file=settings.database_password_file,
    )
    producer = FencedProducer(platform.kafka_bootstrap, "hydra.accounts.outbox")
    relay = OutboxRelay(database, producer, clock)
    api_keys = ApiKeys(platform.kafka_bootstrap, operator_token)
    app = create_app(title="Hydra accounts", description=DESCRIPTION, api_keys=api_keys, reasons=[lambda: relay.reason])
    idempotency = IdempotencyKeys(clock, keep_s=settings.idempotency_keep_s)
    app.include_router(AccountRoutes(database, clock, idempotency, KeyMaker(cluster_secret), settings).router())
    try:
        await migrate(database, Path(__file__).parent / "migrations")
        async with database.transaction() as session:
            await ensure_operator_account(session, clock, settings.currency)
        await serve_app(
            app,
            host=settings.host,
            port=settings.port,
            port_setting="HYDRA_ACCOUNTS_PORT",
            background=[
                api_keys.run(),
                relay.run(),
                Republisher(database, clock, every_s=settings.republish_every_s).run(),
                LastUsed(database, platform.kafka_bootstrap, every_s=settings.last_used_every_s).run(),
            ],
        )
    finally:
        await producer.stop()
        await database.close()


if __name__ == "__main__":
    sys.exit(run_process("accounts", serve))
