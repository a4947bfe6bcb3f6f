"""What billing asks ClickHouse beyond adapters/clickhouse: unbilled usage, and whether it answers."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.progress import as_of
from adapters.errors import Unavailable
from services.billing.views import UnbilledUsage

logger = logging.getLogger(__name__)

_UNBILLED = """
SELECT reason, model, access_path, count() AS requests, sum(ifNull(v.prompt_tokens, 0)) AS prompt,
    sum(ifNull(v.completion_tokens, 0)) AS completion
FROM v_unbilled_usage AS v
WHERE account = {account:String}
    AND event_date BETWEEN toDate({from:DateTime64(6, 'UTC')}) AND toDate({until:DateTime64(6, 'UTC')})
    AND event_time >= {from:DateTime64(6, 'UTC')} AND event_time < {until:DateTime64(6, 'UTC')}
GROUP BY reason, model, access_path
ORDER BY requests DESC, reason, model, access_path
LIMIT {rows:UInt32}
"""

ANSWER_WITHIN_S = 10.0
UNBILLED_ROWS_MAX = 1_000
"""Callers may ask for any number of access paths that do not exist; each is a row."""


async def unbilled_usage(
    clickhouse: ClickHouse, account: str, start: datetime, end: datetime, *, rows_max: int = UNBILLED_ROWS_MAX
) -> tuple[list[UnbilledUsage], bool]:
    """Requests of `[start, end)` without a charge, summed by reason, model and access path, and in that order.

    True beside them says that there are more than `rows_max` such sums, and that those of the fewest requests lack.
    """
    asked = {"account": account, "from": start, "until": end, "rows": rows_max + 1}
    rows = await clickhouse.query(_UNBILLED, asked)
    sums = [
        UnbilledUsage(
            reason=reason,
            model=model,
            resource=access_path,
            requests=requests,
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
        )
        for reason, model, access_path, requests, prompt, completion in sorted(rows[:rows_max], key=lambda row: row[:3])
    ]
    return sums, len(rows) > rows_max


class WarehouseWatch:
    """Looks every few seconds whether ClickHouse answers; `reason` is empty while it does."""

    def __init__(self, clickhouse: ClickHouse, *, every_s: float) -> None:
        self._clickhouse = clickhouse
        self._every_s = every_s
        self.reason = "ClickHouse has not answered yet"

    async def run(self) -> None:
        """Look until cancelled; each cause is logged once."""
        told = ""
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await as_of(self._clickhouse)
                self.reason, told = "", ""
            except (Unavailable, TimeoutError) as error:
                self.reason = "ClickHouse does not answer billing's questions yet"
                cause = str(error) or f"no answer within {ANSWER_WITHIN_S:g} s"
                if cause != told:
                    told = cause
                    logger.warning("warehouse cannot be read", extra={"cause": told})
            await asyncio.sleep(self._every_s if not self.reason else 1.0)
