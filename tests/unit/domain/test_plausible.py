"""What no event can hold, whichever field of whichever struct it stands in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from domain.plausible import Implausible, check_plausible
from schemas.spend import SpendStated
from tests.builders.billing_events import NOON, instance, token_price, usage


@pytest.mark.parametrize(
    "data",
    [
        usage(prompt_tokens=-1),
        usage(completion_tokens=10**16),
        usage(received=datetime(1999, 12, 31, tzinfo=UTC)),
        usage(first_token=datetime(2200, 1, 1, tzinfo=UTC)),
        usage(received=datetime(2026, 1, 1)),
        usage(access_path="x" * 5_000),
        instance(datetime(2026, 1, 1), datetime(2026, 1, 2)),
        msgspec.structs.replace(token_price("input_tokens", "4"), unit_price=Decimal("Infinity")),
        msgspec.structs.replace(token_price("input_tokens", "4"), unit_price=Decimal("1e-13")),
        SpendStated(account="u", hour=NOON, totals={"CNY": Decimal("1e21")}, covers_offset=1),
        SpendStated(account="u", hour=NOON, totals={}, covers_offset=-1),
    ],
)
def test_out_of_bounds_is_refused_without_quoting_it(data: msgspec.Struct) -> None:
    with pytest.raises(Implausible) as refused:
        check_plausible(data)
    assert str(refused.value).endswith(" is out of bounds")


@pytest.mark.parametrize("data", [usage(), instance(), instance(None), token_price("input_tokens", "0.000001")])
def test_what_is_in_bounds_passes(data: msgspec.Struct) -> None:
    check_plausible(data)
