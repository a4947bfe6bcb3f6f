"""Amounts as the billing interface says them: every digit, without needless zeros."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from adapters.clickhouse.billing_questions import Bill
from services.billing.row_views import row_view
from services.billing.views import lines_of, totals_of

LARGE = Decimal("12345678901234567.123456789012")
"""Of 29 digits: one more than Python's own context keeps."""


def bill(amount: Decimal) -> Bill:
    line: dict[str, Any] = {
        "meter": "input_tokens",
        "model": "m",
        "resource": "public/m",
        "region": "",
        "spec": "",
        "unit": "token",
        "unit_price": Decimal("4.000000000000"),
        "per": 1_000_000,
        "currency": "CNY",
        "quantity": 1,
        "amount": amount,
        "charges": 1,
    }
    return Bill([line], {"CNY": amount}, {("m", "CNY"): amount}, {("public/m", "CNY"): amount})


def test_a_large_amount_keeps_every_digit() -> None:
    made = bill(LARGE)
    assert [(line.amount, line.unit_price) for line in lines_of(made)] == [(str(LARGE), "4")]
    totals = totals_of(made)
    for sums in (totals.overall, totals.by_model, totals.by_resource):
        assert [each.amount for each in sums] == [str(LARGE)]
    assert row_view({"amount": LARGE}) == {"amount": str(LARGE)}


def test_needless_zeros_are_left_out() -> None:
    assert [line.amount for line in lines_of(bill(Decimal("0.048000000000")))] == ["0.048"]
    assert [each.amount for each in totals_of(bill(Decimal("0.000000000000"))).overall] == ["0"]
