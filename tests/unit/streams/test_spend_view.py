"""Which balances may be shown, and when a partition is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from schemas.spend import SpendStated
from streams.live_spend.spend_view import SpendView

HOUR = datetime(2026, 11, 20, 12, tzinfo=UTC)


def stated(account: str, amount: str, covers_offset: int) -> SpendStated:
    return SpendStated(account=account, hour=HOUR, totals={"CNY": Decimal(amount)}, covers_offset=covers_offset)


def shown(view: SpendView) -> dict[str, Decimal]:
    return {account: spend.windows(HOUR).spent_total["CNY"] for account, spend in view.changed().items()}


def new_view(*partitions: int, ends: dict[int, int]) -> SpendView:
    view = SpendView(ZoneInfo("UTC"))
    view.own(frozenset(partitions))
    view.ends_at(ends)
    return view


def test_nothing_is_shown_of_a_partition_that_is_still_being_read() -> None:
    view = new_view(0, ends={0: 2})
    view.take(0, 0, stated("a", "1", 5))
    assert (shown(view), view.caught_up) == ({}, False)
    view.take(0, 1, stated("a", "2", 6))
    assert (shown(view), view.caught_up) == ({"a": Decimal(2)}, True)
    assert shown(view) == {}


def test_an_empty_partition_is_whole_at_once() -> None:
    assert new_view(0, 1, ends={0: 0, 1: 0}).caught_up is True


def test_a_message_that_states_nothing_counts_as_read() -> None:
    view = new_view(0, ends={0: 1})
    view.take(0, 0, None)
    assert view.caught_up is True


def test_a_partition_that_stays_is_shown_on_and_one_that_goes_is_forgotten() -> None:
    view = new_view(0, 1, ends={0: 1, 1: 1})
    view.take(0, 0, stated("a", "1", 1))
    view.take(1, 0, stated("b", "2", 1))
    view.own(frozenset({0}))
    view.mark_all()
    assert shown(view) == {"a": Decimal(1)}
    # Read from its beginning again, to a later end: nothing is shown before that.
    view.own(frozenset({0, 1}))
    view.ends_at({0: 1, 1: 2})
    view.take(1, 0, stated("b", "2", 1))
    assert shown(view) == {}
    view.take(1, 1, stated("b", "3", 2))
    assert shown(view) == {"b": Decimal(3)}


def test_a_message_that_comes_before_its_assignment_is_told_is_kept() -> None:
    view = new_view(0, ends={0: 0})
    view.take(1, 0, stated("b", "2", 1))
    view.own(frozenset({0, 1}))
    view.ends_at({1: 1})
    assert shown(view) == {"b": Decimal(2)}


def test_marking_one_account_shows_it_again() -> None:
    view = new_view(0, ends={0: 2})
    view.take(0, 0, stated("a", "1", 1))
    view.take(0, 1, stated("b", "1", 2))
    shown(view)
    view.mark("b")
    view.mark("unknown")
    assert set(shown(view)) == {"b"}
