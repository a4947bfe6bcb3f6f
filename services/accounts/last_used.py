"""When each key was last used, as people see it in a list: read from `hydra.usage`, written a few rows at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from adapters.database.engine import Database
from adapters.errors import Unavailable
from domain.ids import KEY_ID
from domain.plausible import Implausible, check_plausible
from schemas import codec
from schemas.topics import USAGE
from schemas.usage import TokensUsed
from services.accounts.tables import api_keys

logger = logging.getLogger(__name__)

GROUP = "hydra.accounts.last-used"
RECORDS_MAX = 2_000
KEYS_A_TRANSACTION = 500
PAUSE_S = 1.0
PAUSE_MAX_S = 30.0


def newest_uses(values: Iterable[bytes | None]) -> dict[str, datetime]:
    """The newest use of each key in these records; what is no usage of a key of ours is passed over."""
    used: dict[str, datetime] = {}
    for value in values:
        # A record without a value is none of usage's, yet whatever may write to the topic may write one.
        # One whose instant UTC cannot say would be read again for ever, and no key's last use be seen any more.
        with contextlib.suppress(msgspec.DecodeError, Implausible):
            usage = codec.decode(value or b"", TokensUsed).data
            check_plausible(usage)
            if KEY_ID.fullmatch(usage.key_id):
                used[usage.key_id] = max(used.get(usage.key_id, usage.received), usage.received)
    return used


class LastUsed:
    """Nothing but a list of keys depends on it, so a record that cannot be read is passed over."""

    def __init__(self, database: Database, bootstrap: str, *, every_s: float, group: str = GROUP) -> None:
        self._database = database
        self._bootstrap = bootstrap
        self._every_s = every_s
        self._group = group
        self._pause_s = PAUSE_S

    async def run(self) -> None:
        """Follow usage until cancelled; away servers are tried again, and so is anything else that goes wrong."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, Unavailable) as error:
                logger.warning("last use of keys cannot be followed", extra={"cause": type(error).__name__})
            except Exception:
                # Accounts and keys are this process's work; it must not end for what only a list shows.
                logger.exception("last use of keys cannot be followed")
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            USAGE.name,
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            while True:
                batches = await consumer.getmany(timeout_ms=1_000, max_records=RECORDS_MAX)
                if batches:
                    await self.write(newest_uses(record.value for records in batches.values() for record in records))
                    await consumer.commit()
                    self._pause_s = PAUSE_S
                    await asyncio.sleep(self._every_s)
        finally:
            await consumer.stop()

    async def write(self, used: dict[str, datetime]) -> None:
        """Move `last_used` of the named keys forward, never back."""
        items = sorted(used.items())
        for start in range(0, len(items), KEYS_A_TRANSACTION):
            async with self._database.transaction() as session:
                for key, at in items[start : start + KEYS_A_TRANSACTION]:
                    earlier = api_keys.c.last_used.is_(None) | (api_keys.c.last_used < at)
                    await session.execute(api_keys.update().where(api_keys.c.id == key, earlier).values(last_used=at))
