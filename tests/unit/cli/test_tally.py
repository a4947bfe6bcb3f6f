"""The demo's judge: it must catch every way in which a bill could disagree."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cli.demo.tally import Tally, disagreements

SHARED = "public/deepseek-r1"


def tally() -> Tally:
    seen = Tally()
    seen.saw(SHARED, 10, 5)
    seen.saw("u-1/test", 7, 7)
    seen.seconds_max["i-1"] = 30.0
    return seen


def line(meter: str, quantity: int, amount: str, resource: str = SHARED, model: str = "deepseek-r1") -> dict[str, Any]:
    return {
        "meter": meter,
        "quantity": quantity,
        "amount": amount,
        "resource": resource,
        "model": model,
        "currency": "CNY",
    }


def bill() -> dict[str, Any]:
    return {
        "lines": [
            line("input_tokens", 10, "0.00004"),
            line("output_tokens", 5, "0.00008"),
            line("instance_seconds", 20, "1.5", "i-1", "phi-4"),
        ],
        "totals": {
            "overall": [{"amount": "1.50012", "currency": "CNY"}],
            "by_model": [
                {"model": "deepseek-r1", "amount": "0.00012", "currency": "CNY"},
                {"model": "phi-4", "amount": "1.5", "currency": "CNY"},
            ],
            "by_resource": [
                {"resource": SHARED, "amount": "0.00012", "currency": "CNY"},
                {"resource": "i-1", "amount": "1.5", "currency": "CNY"},
            ],
        },
    }


def test_an_agreeing_bill_has_no_disagreements() -> None:
    assert disagreements(tally(), bill(), SHARED) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda b: b["lines"][0].update(quantity=11), "11 input tokens are billed, the client saw 10"),
        (lambda b: b["lines"][1].update(quantity=4), "4 output tokens are billed, the client saw 5"),
        (lambda b: b["lines"].pop(2), "instance i-1 is billed 0 s"),
        (lambda b: b["lines"][2].update(quantity=31), "instance i-1 is billed 31 s"),
        (lambda b: b["lines"][2].update(resource="i-2"), "instance i-2 is on the bill but was never seen"),
        (lambda b: b["lines"].append(line("input_tokens", 7, "0", "u-1/test")), "tokens of u-1/test are on the bill"),
        (lambda b: b["totals"]["overall"][0].update(amount="1.5"), "the total is 1.5 CNY"),
        (lambda b: b["totals"]["by_model"][1].update(amount="1.4"), "the total of phi-4 is 1.4"),
        (lambda b: b["totals"]["by_resource"][0].update(amount="1.4"), "the total of public/deepseek-r1 is 1.4"),
    ],
)
def test_a_disagreement_is_named(change: Any, named: str) -> None:
    wrong = copy.deepcopy(bill())
    change(wrong)
    assert any(named in sentence for sentence in disagreements(tally(), wrong, SHARED))


def test_an_empty_bill_is_no_agreement() -> None:
    empty = {"lines": [], "totals": {"overall": [], "by_model": [], "by_resource": []}}
    assert len(disagreements(tally(), empty, SHARED)) == 4
