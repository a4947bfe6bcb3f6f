"""Hashes against JSON written by hand, so that no library decides what a hash is."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from domain import payload_hash
from domain.prices import PriceBook
from domain.rating import charges_for
from tests.builders.billing_events import NOON, deepseek_prices, instance, token_price, usage, usage_event


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def test_of_usage() -> None:
    assert payload_hash.of_usage(usage()) == sha(
        '["cmp-00000000000000000000000000000001","u-0123456789ab","k-0123456789ab","public/deepseek-r1",'
        '"s-0123456789ab","deepseek-r1","sh-02","token","completed","2026-11-20T12:00:00Z",1000,200,500]'
    )


def test_of_an_instance_event() -> None:
    assert payload_hash.of_instance(instance()) == sha(
        '["i-0123456789ab",1,1,"u-0123456789ab","s-0123456789ab","u-0123456789ab/test","qwen2-0.5b-instruct",'
        '"sh-02","gpu-1","time",{"billable_from":"2026-11-20T12:00:00Z","billable_until":"2026-11-20T12:01:00Z",'
        '"period":1}]'
    )


def test_of_a_price() -> None:
    assert payload_hash.of_price(token_price("input_tokens", "4.0")) == sha(
        '["deepseek-r1/input_tokens",1,"input_tokens","4.0",1000000,"CNY","2025-01-01T00:00:00Z",null,"published"]'
    )


def test_of_a_charge() -> None:
    raised = charges_for(usage(), usage_event(usage()), PriceBook(deepseek_prices()))
    assert payload_hash.of_charge(raised.lines[0], "ab" * 16) == sha(
        '["abababababababababababababababab","cmp-00000000000000000000000000000001/input_tokens/20261120T120000000000Z/1",'
        '"input_tokens",800,"token","4",1000000,"0.003200000000","CNY","deepseek-r1/input_tokens",1,'
        '"2026-11-20T12:00:00Z","2026-11-20T12:00:00Z"]'
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"gateway": "another"},
        {"client_request_id": "mine"},
        {"received": NOON - timedelta(minutes=5)},
        {"first_token": NOON},
        {"status": 499},
        {"instance": "i-ffffffffffff"},
    ],
)
def test_what_bears_on_no_price_is_outside(fields: dict[str, object]) -> None:
    assert payload_hash.of_usage(usage(**fields)) == payload_hash.of_usage(usage())


@pytest.mark.parametrize(
    "fields",
    [
        {"completion_tokens": 501},
        {"cached_tokens": None},
        {"cached_tokens": 0},
        {"outcome": "client_gone"},
        {"billing": "time"},
        {"ended": NOON + timedelta(microseconds=1)},
        {"account": "u-ba9876543210"},
    ],
)
def test_what_bears_on_the_price_is_inside(fields: dict[str, object]) -> None:
    assert payload_hash.of_usage(usage(**fields)) != payload_hash.of_usage(usage())


def test_when_a_price_became_known_is_outside_its_hash() -> None:
    price = token_price("input_tokens", "4")
    assert payload_hash.of_price(msgspec.structs.replace(price, recorded_at=NOON)) == payload_hash.of_price(price)
    assert payload_hash.of_price(msgspec.structs.replace(price, unit_price=Decimal(5))) != payload_hash.of_price(price)
