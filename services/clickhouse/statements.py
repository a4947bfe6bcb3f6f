"""What a statement is, read from its words: an insert with its data's beginning, a query with its output format.

A small lexer, because a regular expression takes `FORMAT` inside a string, a comment or a column's name for the clause.
What is never closed goes on to the end, and nothing is searched twice: a reader's statement is read before any limit of
the engine holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
      (?P<space>\s+|--[^\n]*|\#[!\s][^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<quoted>'(?:[^'\\]|\\.|''|\\\Z)*+(?:'|\Z)
               | `(?:[^`\\]|\\.|``|\\\Z)*+(?:`|\Z)
               | "(?:[^"\\]|\\.|""|\\\Z)*+(?:"|\Z))
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DATA_BEGINS = re.compile(rb"[ \t]*(?:;[ \t]*)?(?:\r?\n)?")


@dataclass(frozen=True)
class Insert:
    """`head` is the statement without FORMAT and data; the data begins at `data_offset` of the statement's bytes."""

    head: str
    format: str
    data_offset: int


@dataclass(frozen=True)
class Query:
    """`text` as it came; `bare` without its FORMAT clause; `format` None where it names none."""

    text: str
    bare: str
    format: str | None
    first_word: str


@dataclass(frozen=True)
class _Word:
    text: str
    start: int
    end: int


def _outer_words(sql: bytes) -> Iterator[_Word]:
    """The bare words outside strings, comments, quoted names and brackets."""
    depth = 0
    for token in _TOKEN.finditer(sql):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "word" and depth == 0:
            yield _Word(token.group().decode(), token.start(), token.end())


def _after_brackets(sql: bytes) -> str:
    """The first word, wherever it stands: `(SELECT 1) UNION ...` begins with SELECT."""
    for token in _TOKEN.finditer(sql):
        if token.lastgroup == "word":
            return token.group().decode().upper()
        if token.lastgroup not in ("space", "open"):
            break
    return ""


def insert_of(sql: bytes) -> Insert | None:
    """The insert whose data follows its text (or the body), or None: `INSERT ... SELECT` is an ordinary statement."""
    if _after_brackets(sql[:4_096]) != "INSERT":
        return None
    previous: _Word | None = None
    for word in _outer_words(sql):
        keyword = word.text.upper()
        if keyword in ("SELECT", "WITH"):
            return None
        if keyword == "VALUES":
            return Insert(sql[: word.start].decode().strip(), "Values", word.end)
        if previous is not None and previous.text.upper() == "FORMAT":
            head = sql[: previous.start].decode().strip()
            begins = _DATA_BEGINS.match(sql, word.end)
            return Insert(head, word.text, begins.end() if begins else word.end)
        previous = word
    return None


def names_table_by_uuid(sql: str) -> bool:
    """Whether a table's clause `UUID '...'` stands anywhere in the statement."""
    before = ""
    for token in _TOKEN.finditer(sql.encode()):
        kind, text = token.lastgroup, token.group()
        if kind == "space":
            continue
        if before == "UUID" and (kind == "heredoc" or text.startswith(b"'")):
            return True
        before = text.decode().upper() if kind == "word" else ""
    return False


def query_of(sql: bytes) -> Query:
    """Any statement that carries no data. Raises UnicodeDecodeError where it is no UTF-8."""
    trimmed = sql.decode().strip().rstrip(";").rstrip().encode()
    text = trimmed.decode()
    words = list(_outer_words(trimmed))
    for at in range(len(words) - 1, 0, -1):
        clause, name = words[at - 1], words[at]
        if clause.text.upper() != "FORMAT" or trimmed[clause.end : name.start].strip():
            continue
        following = trimmed[name.end :].strip()
        if not following or following.upper().startswith(b"SETTINGS"):
            bare = (trimmed[: clause.start] + trimmed[name.end :]).decode().strip()
            return Query(text, bare, name.text, _after_brackets(trimmed))
    return Query(text, text, None, _after_brackets(trimmed))
