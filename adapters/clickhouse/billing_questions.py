"""What the billing API asks, always of one account: pages of usage and of charges, the bill of a month, prices.

Amounts come as text and become Decimals here: the client would round what has more than 28 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from adapters.clickhouse.client import ClickHouse
from domain.calendar import utc
from domain.money import total

PAGE_MAX = 1_000
PENDING = "pending"
"""Not rated yet: a request shows its charges a few seconds after its end."""
CONFLICT = "conflict"
"""Its id has two hashes: left out of every bill until a person decides."""

_USAGE = """
SELECT id, event_time, received, first_token, key_id, access_path, endpoint, streamed, outcome, status, error_code,
    billing, service_id, model, region, instance, prompt_tokens, cached_tokens, completion_tokens, attempts
FROM usage FINAL
WHERE account = {account:String}
    AND event_date BETWEEN toDate({from:DateTime64(6, 'UTC')}) AND toDate({until:DateTime64(6, 'UTC')})
    AND event_time >= {from:DateTime64(6, 'UTC')} AND event_time < {until:DateTime64(6, 'UTC')}
    AND (event_time, id) > ({after_time:DateTime64(6, 'UTC')}, {after_id:String})
ORDER BY event_time, id
LIMIT {limit:UInt32}
"""
_CHARGES_OF_REQUESTS = """
SELECT source_event, currency, toString(sum(toDecimal256(charges.amount, 12))), count()
FROM charges FINAL
WHERE account = {account:String} AND event_date BETWEEN {first:Date} AND {last:Date}
    AND source_event IN {ids:Array(String)}
GROUP BY source_event, currency
ORDER BY currency
"""
_REASONS_OF_REQUESTS = """
SELECT id, argMin(reason, reason = 'unpriced')
FROM unrated
WHERE account = {account:String} AND event_date BETWEEN {first:Date} AND {last:Date} AND id IN {ids:Array(String)}
GROUP BY id
"""
_CONFLICTING = "SELECT DISTINCT source_event FROM conflicting_events WHERE source_event IN {ids:Array(String)}"
_CHARGES = """
SELECT * EXCEPT (account, event_date, day, amount, unit_price), toString(v.unit_price) AS unit_price,
    toString(v.amount) AS amount
FROM v_charges AS v
WHERE account = {account:String}
    AND event_date BETWEEN toDate({from:DateTime64(6, 'UTC')}) AND toDate({until:DateTime64(6, 'UTC')})
    AND event_time >= {from:DateTime64(6, 'UTC')} AND event_time < {until:DateTime64(6, 'UTC')}
    AND (event_time, id) > ({after_time:DateTime64(6, 'UTC')}, {after_id:String})
    AND ({source:String} = '' OR source_event = {source:String})
ORDER BY event_time, id
LIMIT {limit:UInt32}
"""
_BILL = """
SELECT meter, model, resource, if(meter = 'instance_seconds', v.region, '') AS line_region, spec, unit,
    toString(v.unit_price) AS price, per, currency, sum(toInt128(v.quantity)) AS total_quantity,
    toString(sum(v.amount)) AS total_amount, count() AS charges
FROM v_charges AS v
WHERE account = {account:String}
    AND event_date BETWEEN toDate({from:DateTime64(6, 'UTC')}) AND toDate({until:DateTime64(6, 'UTC')})
    AND event_time >= {from:DateTime64(6, 'UTC')} AND event_time < {until:DateTime64(6, 'UTC')}
GROUP BY meter, model, resource, line_region, spec, unit, v.unit_price, per, currency
ORDER BY model, resource, meter, v.unit_price, currency
"""
_PRICES = """
SELECT * EXCEPT unit_price, toString(v.unit_price) AS unit_price FROM v_prices AS v ORDER BY price_id, version
"""
_LAST_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: the next begins behind this event time and id."""

    event_time: datetime
    id: str


@dataclass(frozen=True)
class Page:
    """`rows` in the order of (event time, id); `next` is None at the end. Column names are those of the views."""

    rows: list[dict[str, Any]]
    next: Cursor | None


@dataclass(frozen=True)
class Bill:
    """`lines` as v_bill_lines has them; totals per currency: of all, by model, by resource. Nothing is rounded."""

    lines: list[dict[str, Any]]
    totals: dict[str, Decimal]
    by_model: dict[tuple[str, str], Decimal]
    by_resource: dict[tuple[str, str], Decimal]


async def usage_page(
    clickhouse: ClickHouse,
    account: str,
    start: datetime,
    end: datetime,
    *,
    after: Cursor | None = None,
    limit: int = 100,
) -> Page:
    """Requests that ended in `[start, end)`, each with its `charges` (currency, amount and how many) or with the
    `unbilled` reason: what rating said, `pending`, or `conflict` (both sides are shown)."""
    rows = await clickhouse.query_named(
        _USAGE,
        _range(account, start, end, after, limit),
    )
    page = _page(rows, limit)
    if page.rows:
        await _add_charges(clickhouse, account, page.rows)
    return page


async def _add_charges(clickhouse: ClickHouse, account: str, rows: Sequence[dict[str, Any]]) -> None:
    of_page = {
        "account": account,
        "ids": [row["id"] for row in rows],
        "first": min(row["event_time"] for row in rows).date(),
        "last": max(row["event_time"] for row in rows).date(),
    }
    charged = await clickhouse.query(_CHARGES_OF_REQUESTS, of_page)
    reasons = dict(await clickhouse.query(_REASONS_OF_REQUESTS, of_page))
    conflicting = await clickhouse.query(_CONFLICTING, of_page)
    in_conflict = {source_event for (source_event,) in conflicting}
    for row in rows:
        row["charges"] = [
            {"currency": currency, "amount": Decimal(amount), "charges": count}
            for source_event, currency, amount, count in charged
            if source_event == row["id"] and source_event not in in_conflict
        ]
        row["unbilled"] = None if row["charges"] else reasons.get(row["id"], PENDING)
        if row["id"] in in_conflict:
            row["unbilled"] = CONFLICT


async def charge_page(
    clickhouse: ClickHouse,
    account: str,
    start: datetime,
    end: datetime,
    *,
    source: str | None = None,
    after: Cursor | None = None,
    limit: int = 100,
) -> Page:
    """Charge lines of `[start, end)` of event time, conflicts left out, with all that v_charges has;
    those of the event `source` alone where it is given."""
    rows = await clickhouse.query_named(
        _CHARGES,
        {**_range(account, start, end, after, limit), "source": source or ""},
    )
    for row in rows:
        row["unit_price"], row["amount"] = Decimal(row["unit_price"]), Decimal(row["amount"])
    return _page(rows, limit)


async def bill(clickhouse: ClickHouse, account: str, start: datetime, end: datetime) -> Bill:
    """The bill of `[start, end)`: a month as domain.calendar.month_bounds gives it, or any other interval."""
    rows = await clickhouse.query_named(_BILL, _range(account, start, end, None, PAGE_MAX))
    lines = [_line(row) for row in rows]
    totals: dict[str, Decimal] = {}
    by_model: dict[tuple[str, str], Decimal] = {}
    by_resource: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        currency, amount = line["currency"], line["amount"]
        totals[currency] = total([totals.get(currency, Decimal(0)), amount])
        model, resource = (line["model"], currency), (line["resource"], currency)
        by_model[model] = total([by_model.get(model, Decimal(0)), amount])
        by_resource[resource] = total([by_resource.get(resource, Decimal(0)), amount])
    return Bill(lines, totals, by_model, by_resource)


async def prices(clickhouse: ClickHouse) -> list[dict[str, Any]]:
    """Every recorded version of every price: prices are public, so no account is asked for."""
    rows = await clickhouse.query_named(_PRICES)
    for row in rows:
        row["unit_price"] = Decimal(row["unit_price"])
    return rows


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """The names of v_bill_lines: in the query they would hide the columns that they sum."""
    return {
        "meter": row["meter"],
        "model": row["model"],
        "resource": row["resource"],
        "region": row["line_region"],
        "spec": row["spec"],
        "unit": row["unit"],
        "unit_price": Decimal(row["price"]),
        "per": row["per"],
        "currency": row["currency"],
        "quantity": row["total_quantity"],
        "amount": Decimal(row["total_amount"]),
        "charges": row["charges"],
    }


def _range(account: str, start: datetime, end: datetime, after: Cursor | None, limit: int) -> dict[str, Any]:
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"a page has 1 to {PAGE_MAX} rows, not {limit}")
    begin = after or Cursor(utc(start) - _LAST_MICROSECOND, "")
    return {
        "account": account,
        "from": max(utc(start), utc(begin.event_time)),
        "until": utc(end),
        "after_time": utc(begin.event_time),
        "after_id": begin.id,
        # One more than asked for tells whether there is a next page.
        "limit": limit + 1,
    }


def _page(rows: list[dict[str, Any]], limit: int) -> Page:
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], Cursor(utc(last["event_time"]), last["id"]))
