"""Rows to columns, and ids to one parameter, as ClickHouse reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from adapters.clickhouse.columns import as_columns
from adapters.clickhouse.text_array import TextArray

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
    ("texts", "written"),
    [
        ([], "[]"),
        (["cmp-1", "cmp-2"], "['cmp-1','cmp-2']"),
        (["it's", "back\\slash"], r"['it\'s','back\\slash']"),
        (["','x"], r"['\',\'x']"),
    ],
)
def test_an_array_of_texts_is_written_as_one_parameter(texts: list[str], written: str) -> None:
    assert TextArray.of(texts) == written
    # What the client escapes piece by piece is one piece.
    assert list(TextArray.of(texts)) == [written]
