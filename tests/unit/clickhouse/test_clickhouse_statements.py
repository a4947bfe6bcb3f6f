"""What a statement is: the words of an insert and of an output format, wherever strings and comments put the same."""

import pytest

from services.clickhouse.statements import insert_of, names_table_by_uuid, query_of


@pytest.mark.parametrize(
    ("sql", "head", "format_name", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\x01", "INSERT INTO t", "Native", b"\x00\x01"),
        (b"insert into t (a, format) format CSV\r\n1,2\r\n", "insert into t (a, format)", "CSV", b"1,2\r\n"),
        (b"INSERT INTO `a FORMAT b` FORMAT TSV\n1", "INSERT INTO `a FORMAT b`", "TSV", b"1"),
        (b"/* FORMAT X */ INSERT INTO t -- FORMAT Y\n FORMAT CSV\n1", None, "CSV", b"1"),
        (b"INSERT INTO t VALUES (1, 'FORMAT CSV')", "INSERT INTO t", "Values", b" (1, 'FORMAT CSV')"),
        (b'INSERT INTO t FORMAT JSONEachRow {"a": 1}', "INSERT INTO t", "JSONEachRow", b'{"a": 1}'),
        (
            b"INSERT INTO t SETTINGS async_insert = 0 FORMAT CSV\n1",
            "INSERT INTO t SETTINGS async_insert = 0",
            "CSV",
            b"1",
        ),
    ],
)
def test_an_insert_ends_where_its_data_begins(sql: bytes, head: str | None, format_name: str, data: bytes) -> None:
    insert = insert_of(sql)
    assert insert is not None
    assert head is None or insert.head == head
    assert insert.format == format_name
    assert sql[insert.data_offset :] == data


@pytest.mark.parametrize(
    "sql",
    [
        b"INSERT INTO t SELECT 1",
        b"INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
        b"SELECT 'INSERT INTO t FORMAT CSV'",
        b"",
    ],
)
def test_what_carries_no_data_is_no_insert(sql: bytes) -> None:
    assert insert_of(sql) is None


@pytest.mark.parametrize(
    ("sql", "bare", "format_name", "first"),
    [
        (b"SELECT 1 FORMAT JSON", "SELECT 1", "JSON", "SELECT"),
        (b"SELECT 1\n FORMAT Native ; ", "SELECT 1", "Native", "SELECT"),
        (b"SELECT ' FORMAT JSON'", "SELECT ' FORMAT JSON'", None, "SELECT"),
        (b"SELECT 1 -- FORMAT JSON", "SELECT 1 -- FORMAT JSON", None, "SELECT"),
        (b"SELECT 'it''s \\' FORMAT CSV' FORMAT TSV", "SELECT 'it''s \\' FORMAT CSV'", "TSV", "SELECT"),
        (b"SELECT format FROM t", "SELECT format FROM t", None, "SELECT"),
        (b"((SELECT 1)) UNION ALL (SELECT 2) FORMAT CSV", "((SELECT 1)) UNION ALL (SELECT 2)", "CSV", "SELECT"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "SELECT 1  SETTINGS max_threads = 1", "CSV", "SELECT"),
        (b"SELECT $tag$ FORMAT JSON $tag$", "SELECT $tag$ FORMAT JSON $tag$", None, "SELECT"),
        (b"SELECT * FROM (SELECT 1 FORMAT JSON)", "SELECT * FROM (SELECT 1 FORMAT JSON)", None, "SELECT"),
    ],
)
def test_the_format_clause_is_the_last_outside_everything(
    sql: bytes, bare: str, format_name: str | None, first: str
) -> None:
    query = query_of(sql)
    assert (query.bare, query.format, query.first_word) == (bare, format_name, first)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT * FROM hydra.usage UUID 'x'", True),
        ("SELECT * FROM usage uuid/* a */ -- b\n'x' FINAL", True),
        ("SELECT * FROM (SELECT * FROM usage UUID $a$x$a$)", True),
        ("SELECT * FROM `usage`UUID'x'", True),
        ("SELECT toUUID('x'), 'x'::UUID, CAST('x' AS UUID), {u:UUID}, uuid FROM usage", False),
        ("SELECT 'UUID', ' UUID ', `UUID` FROM usage -- UUID 'x'", False),
        ("SELECT uuid, 'x' FROM usage WHERE uuid = 'x'", False),
    ],
)
def test_a_table_given_by_its_uuid_is_found_outside_strings_and_comments(sql: str, found: bool) -> None:
    assert names_table_by_uuid(sql) is found


@pytest.mark.parametrize("opened", [b"'", b'"', b"`", b"/*", b"$$", b"$tag$", b"'\\"])
def test_what_is_never_closed_goes_on_to_the_end(opened: bytes) -> None:
    """ClickHouse refuses it. Searched again from each of its bytes, 256 KiB would take a core for many minutes."""
    assert query_of(b"SELECT 1 " + opened + b" FORMAT CSV").format is None
    query_of(opened * (262_144 // len(opened)))
    query_of(b"SELECT " + b"\\'" * 131_072)


def test_what_is_closed_ends_there() -> None:
    for closed in (b"'it''s'", b"'a\\'b'", b'"a""b"', b"`a``b`", b"/* ' */", b"$$ ' $$", b"$t$ $$ $t$"):
        assert query_of(b"SELECT " + closed + b" FORMAT CSV").format == "CSV", closed
