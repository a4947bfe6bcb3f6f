"""Hours that another warehouse may have stated from more charges: they are owed until they were stated last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from adapters.clickhouse.writing import AccountHour
from adapters.errors import Unavailable
from streams.warehouse import stated_totals
from streams.warehouse.stated_totals import StatedTotals, Totals
from streams.warehouse.writing import Writing

HOUR: AccountHour = ("u-000000000001", datetime(2026, 11, 20, 10, tzinfo=UTC))


class Scripted(StatedTotals):
    """States what ClickHouse has, which is scripted, or fails."""

    def __init__(self, asked: Iterator[Decimal | None]) -> None:
        self._asked = asked
        self._clickhouse: Any = None
        self.stated: list[Totals] = []

    async def state(self, hours: Collection[AccountHour], records: Sequence[ConsumerRecord]) -> Totals:
        self.stated.append(await self.now(None, hours))
        return self.stated[-1]

    async def now(self, _: object, hours: Collection[AccountHour]) -> Totals:
        amount = next(self._asked)
        if amount is None:
            raise Unavailable("ClickHouse is away")
        return {hour: {"CNY": amount} for hour in hours}


def written_in(totals: Scripted, monkeypatch: pytest.MonkeyPatch) -> Writing:
    monkeypatch.setattr(stated_totals, "hour_totals", totals.now)
    nothing: Any = None
    writing = Writing(nothing, nothing, totals, nothing, nothing, nothing)
    writing._last_hours = {HOUR}
    return writing


async def test_an_hour_is_stated_again_until_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked, stated, and asked again: another one has written in between, the first time.
    totals = Scripted(iter([Decimal(2), Decimal(3), Decimal(3), Decimal(3)]))
    writing = written_in(totals, monkeypatch)
    await writing.state_overtaken()
    assert totals.stated == []
    writing.overtaken()
    for _ in range(3):
        await writing.state_overtaken()
    assert totals.stated == [{HOUR: {"CNY": Decimal(2)}}, {HOUR: {"CNY": Decimal(3)}}]


async def test_an_hour_that_cannot_be_stated_stays_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = Scripted(iter([None, Decimal(3), None, Decimal(3), Decimal(3)]))
    writing = written_in(totals, monkeypatch)
    writing.overtaken()
    for _ in range(2):  # before it is stated, and before it is known to stay
        with pytest.raises(Unavailable):
            await writing.state_overtaken()
    await writing.state_overtaken()
    await writing.state_overtaken()
    assert totals.stated == [{HOUR: {"CNY": Decimal(3)}}] * 2
