"""Rows to columns, and lists into the statement, as ClickHouse reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from adapters.clickhouse.columns import as_columns
from adapters.clickhouse.statement_lists import array_literal, with_lists

AT = datetime(2026, 11, 20, 12, 30, 1, 123_457, tzinfo=UTC)
IN_MICROSECONDS = 1_795_177_801_123_457


def test_instants_become_ticks_of_their_column_and_all_else_stays() -> None:
    rows: list[tuple[Any, ...]] = [
        ("a", AT, None, AT),
        ("b", AT.astimezone(timezone(timedelta(hours=8))), AT, AT + timedelta(microseconds=999)),
    ]
    types = ["String", "DateTime64(6, 'UTC')", "Nullable(DateTime64(6, 'UTC'))", "DateTime64(3, 'UTC')"]
    assert as_columns(rows, types) == [
        ["a", "b"],
        [IN_MICROSECONDS, IN_MICROSECONDS],
        [None, IN_MICROSECONDS],
        [IN_MICROSECONDS // 1000, (IN_MICROSECONDS + 999) // 1000],
    ]


def test_an_instant_that_could_be_any_is_refused() -> None:
    with pytest.raises(TypeError):
        as_columns([(AT.replace(tzinfo=None),)], ["DateTime64(6, 'UTC')"])


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([], "[]"),
        (["cmp-1", "cmp-2"], "['cmp-1','cmp-2']"),
        (["it's", "back\\slash"], r"['it\'s','back\\slash']"),
        (["','x"], r"['\',\'x']"),
        ([3, 12], "[3,12]"),
    ],
)
def test_a_list_is_written_so_that_no_value_can_end_it(values: list[str] | list[int], written: str) -> None:
    assert array_literal(values) == written


def test_lists_go_into_the_statement_and_all_else_stays_a_parameter() -> None:
    sql = "SELECT 1 WHERE id IN {ids:Array(String)} AND account = {account:String} AND hour IN {hours:Array(UInt32)}"
    parameters = {"ids": ["{account:String}", "a'b"], "account": "u", "hours": [1]}
    assert with_lists(sql, parameters) == (
        r"SELECT 1 WHERE id IN ['{account:String}','a\'b'] AND account = {account:String} AND hour IN [1]",
        {"account": "u"},
    )
