"""The HTTP routes, all GET: /v1/usage, /v1/requests, /v1/charges, /v1/bill, /v1/prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from adapters.api_keys import Principal
from adapters.clickhouse import billing_questions
from adapters.clickhouse.billing_questions import Cursor
from adapters.clickhouse.billing_questions import Page as WarehousePage
from adapters.clickhouse.client import ClickHouse
from adapters.clickhouse.progress import as_of
from adapters.clock import Clock
from adapters.http_callers import Caller, acting_account, require_scope
from adapters.http_errors import ApiError, error_responses
from adapters.http_paging import PAGE_ROWS, Limit, PageCursor, cursor_instant, cursor_parts, cursor_text
from services.billing.csv_answers import csv_answer, wants_csv
from services.billing.periods import Period, Periods
from services.billing.price_recorder import PriceRecorder
from services.billing.questions import unbilled_usage
from services.billing.row_views import ChargePage, ChargeRow, RequestPage, RequestRow, row_view
from services.billing.views import (
    BillAnswer,
    BillLine,
    PricePage,
    PriceView,
    UsageAnswer,
    lines_of,
    totals_of,
)

Account = Annotated[
    str | None, Query(max_length=64, description="For the operator; a customer's key knows its own account.")
]
Month = Annotated[
    str | None, Query(max_length=7, description="YYYY-MM in the platform's time zone. Default: this one.")
]
From = Annotated[datetime | None, Query(alias="from", description="From this instant, with its UTC offset.")]
Until = Annotated[datetime | None, Query(description="Up to this instant, not included.")]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    **error_responses(403, 404),
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "JSON, or CSV on `Accept`."},
}


@dataclass(frozen=True)
class BillingRoutes:
    """The routes and what they read."""

    clickhouse: ClickHouse
    clock: Clock
    periods: Periods
    recorder: PriceRecorder

    def router(self) -> APIRouter:
        """All routes, to be included in the app."""
        router = APIRouter(tags=["billing"])
        self._add_summaries(router)
        self._add_rows(router)
        self._add_prices(router)
        return router

    def _add_summaries(self, router: APIRouter) -> None:
        @router.get("/v1/usage", response_model=UsageAnswer, responses=_RESPONSES)
        async def usage(
            request: Request,
            caller: Caller,
            account: Account = None,
            month: Month = None,
            start: From = None,
            until: Until = None,
        ) -> Response:
            """What was used, by meter, model, resource and price; and what was used without being charged, and why."""
            target = _billed_account(caller, account)
            period = self.periods.of(month, start, until, self.clock.now())
            # Asked first: what has come since is more, never less, than what it says.
            known = await as_of(self.clickhouse)
            found = await billing_questions.bill(self.clickhouse, target, period.start, period.end)
            if wants_csv(request):
                return csv_answer(lines_of(found), tuple(BillLine.model_fields), as_of=known)
            unbilled, truncated = await unbilled_usage(self.clickhouse, target, period.start, period.end)
            return _json(
                UsageAnswer(
                    account=target,
                    start=period.start,
                    end=period.end,
                    lines=lines_of(found),
                    unbilled=unbilled,
                    unbilled_truncated=truncated,
                    totals=totals_of(found),
                    as_of=known,
                )
            )

        @router.get("/v1/bill", response_model=BillAnswer, responses=_RESPONSES)
        async def bill(request: Request, caller: Caller, account: Account = None, month: Month = None) -> Response:
            """The bill of a month: each line with quantity, unit, unit price and amount, and totals."""
            target = _billed_account(caller, account)
            period = self.periods.of_month(month, self.clock.now())
            known = await as_of(self.clickhouse)
            found = await billing_questions.bill(self.clickhouse, target, period.start, period.end)
            if wants_csv(request):
                return csv_answer(lines_of(found), tuple(BillLine.model_fields), as_of=known)
            return _json(
                BillAnswer(
                    account=target,
                    month=period.month or "",
                    time_zone=self.periods.zone.key,
                    start=period.start,
                    end=period.end,
                    lines=lines_of(found),
                    totals=totals_of(found),
                    as_of=known,
                )
            )

    def _add_rows(self, router: APIRouter) -> None:
        @router.get("/v1/requests", response_model=RequestPage, responses=_RESPONSES)
        async def requests(
            request: Request,
            caller: Caller,
            account: Account = None,
            month: Month = None,
            start: From = None,
            until: Until = None,
            limit: Limit = PAGE_ROWS,
            cursor: PageCursor = None,
        ) -> Response:
            """Single requests, oldest first, each with its charges or the reason why it has none."""
            target, period = self._asked(caller, account, month, start, until, cursor)
            known = await as_of(self.clickhouse)
            found = await billing_questions.usage_page(
                self.clickhouse, target, period.start, period.end, after=_after(cursor), limit=limit
            )
            rows = [RequestRow(**row_view(row)) for row in found.rows]
            following = _following(found, period)
            if wants_csv(request):
                return csv_answer(rows, tuple(RequestRow.model_fields), as_of=known, next_cursor=following)
            return _json(RequestPage(data=rows, next_cursor=following, as_of=known))

        @router.get("/v1/charges", response_model=ChargePage, responses=_RESPONSES)
        async def charges(
            request: Request,
            caller: Caller,
            account: Account = None,
            month: Month = None,
            start: From = None,
            until: Until = None,
            source: Annotated[str | None, Query(max_length=200, description="Only of this source event.")] = None,
            limit: Limit = PAGE_ROWS,
            cursor: PageCursor = None,
        ) -> Response:
            """Single charge lines, oldest first: quantity x unit_price / per = amount, the price and the source."""
            target, period = self._asked(caller, account, month, start, until, cursor)
            known = await as_of(self.clickhouse)
            found = await billing_questions.charge_page(
                self.clickhouse, target, period.start, period.end, source=source, after=_after(cursor), limit=limit
            )
            rows = [ChargeRow(**row_view(row)) for row in found.rows]
            following = _following(found, period)
            if wants_csv(request):
                return csv_answer(rows, tuple(ChargeRow.model_fields), as_of=known, next_cursor=following)
            return _json(ChargePage(data=rows, next_cursor=following, as_of=known))

    def _asked(
        self,
        caller: Principal,
        account: str | None,
        month: str | None,
        start: datetime | None,
        until: datetime | None,
        cursor: str | None,
    ) -> tuple[str, Period]:
        """Who and when. A cursor carries its own end, so that the pages of "until now" are pages of one interval."""
        target = _billed_account(caller, account)
        period = self.periods.of(month, start, until, self.clock.now())
        parts = cursor_parts(cursor, 4)
        if parts is not None and month is None and until is None:
            # Held to the same bounds: whoever sends it may have made it up.
            period = self.periods.between(cursor_instant(parts[2]), cursor_instant(parts[3]), field="cursor")
        return target, period

    def _add_prices(self, router: APIRouter) -> None:
        @router.get("/v1/prices", response_model=PricePage, responses=_RESPONSES)
        async def prices(
            request: Request,
            caller: Caller,
            model: Annotated[str | None, Query(max_length=64)] = None,
            every: Annotated[bool, Query(alias="all", description="Past and future versions too.")] = False,
            limit: Limit = PAGE_ROWS,
            cursor: PageCursor = None,
        ) -> Response:
            """The prices in force now, or all recorded versions, by id. Any key may ask."""
            if self.recorder.reason and not len(self.recorder.book):
                raise ApiError(503, "unavailable", f"{self.recorder.reason[:1].upper()}{self.recorder.reason[1:]}.")
            now, after = self.clock.now(), cursor_parts(cursor, 2)
            found = [
                price
                for price in self.recorder.versions()
                if (every or self.recorder.book.price_at(price.price_id, now) is price)
                and (model is None or price.model == model)
                and (after is None or (price.price_id, f"{price.version:09d}") > after)
            ]
            found.sort(key=lambda price: (price.price_id, price.version))
            rows = [PriceView.of(price) for price in found[:limit]]
            following = cursor_text(rows[-1].price_id, f"{rows[-1].version:09d}") if len(found) > limit else None
            if wants_csv(request):
                return csv_answer(rows, tuple(PriceView.model_fields), as_of=now, next_cursor=following)
            return _json(PricePage(data=rows, next_cursor=following, as_of=now))


def _billed_account(caller: Principal, account: str | None) -> str:
    require_scope(caller, "billing")
    return acting_account(caller, account)


def _json(answer: BaseModel) -> JSONResponse:
    return JSONResponse(answer.model_dump(mode="json", by_alias=True), headers={"Vary": "Accept"})


def _following(found: WarehousePage, period: Period) -> str | None:
    if found.next is None:
        return None
    place = (found.next.event_time.isoformat(), found.next.id)
    return cursor_text(*place, period.start.isoformat(), period.end.isoformat())


def _after(cursor: str | None) -> Cursor | None:
    parts = cursor_parts(cursor, 4)
    return None if parts is None else Cursor(cursor_instant(parts[0]), parts[1])
