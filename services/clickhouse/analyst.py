"""What a reader (analyst, billing) may run: one statement that reads Hydra's database, judged by its parsed form first.

The engine's `readonly` alone still lets a statement read files, call hosts and hide another statement in a table
function (`eval`). So the parsed statement is read, and every function and table in it must be on a list: what is not
known is refused, also in a later engine. The engine parses (`EXPLAIN AST`), nothing is executed for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapters.clickhouse.reader_limits import ReaderLimits
from services.clickhouse.engine import Engine
from services.clickhouse.errors import QueryError, read_only
from services.clickhouse.settings import ClickHouseSettings
from services.clickhouse.statements import Query, names_table_by_uuid, query_of
from services.clickhouse.syntax_tree import Incomplete, Node, nodes_of

DATABASE = "hydra"
_ACCESS_DENIED = 497
_UNKNOWN_DATABASE = 81
_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a statement may be made of. Not among them: ColumnsApplyTransformer (it hides a function's name), Set.
_KINDS = _words(
    "Alias ArrayJoin Asterisk ColumnsExceptTransformer ColumnsListMatcher ColumnsRegexpMatcher "
    "ColumnsReplaceTransformer ColumnsReplaceTransformer::Replacement ColumnsTransformerList DescribeQuery "
    "ExistsTableQuery ExistsViewQuery Explain ExpressionList Function Identifier InterpolateElement Literal "
    "OrderByElement QualifiedAsterisk QualifiedColumnsListMatcher QualifiedColumnsRegexpMatcher "
    "SelectIntersectExceptQuery SelectQuery SelectWithUnionQuery ShowColumns ShowCreateTableQuery "
    "ShowCreateViewQuery ShowTables Subquery TableExpression TableIdentifier TableJoin TablesInSelectQuery "
    "TablesInSelectQueryElement WindowDefinition WindowListElement WithElement"
)
_ROOTS = frozenset(
    {
        "SelectWithUnionQuery",
        "SelectIntersectExceptQuery",
        "Explain",
        "ShowTables",
        "ShowColumns",
        "ShowCreateTableQuery",
        "ShowCreateViewQuery",
        "DescribeQuery",
        "ExistsTableQuery",
        "ExistsViewQuery",
    }
)
_TABLE_FUNCTIONS = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "values"}
)
_SYSTEM_TABLES = _words(
    "one numbers numbers_mt zeros zeros_mt tables columns databases functions settings formats time_zones "
    "data_type_families keywords contributors licenses collations"
)
_NO_DATABASE_OF_OURS = frozenset({"system", "information_schema", "default"})
# Whole kinds of functions that reach out of the query: dictionaries, models, remote services, the process itself.
_CATEGORIES_REFUSED = frozenset(
    {"AI", "Dictionary", "Embedded Dictionary", "Internal", "Introspection", "Machine Learning", "Other", ""}
)
# Of the kind "Other" (files, hosts, sleeping, the server's settings), and of the parser's own: those that only compute.
_ALSO_ALLOWED = _words(
    "_cast lambda exists columns untuple bar byteSize caseWithExpression countDigits currentDatabase currentUser "
    "defaultValueOfArgumentType defaultValueOfTypeName digits errorCodeToName finalizeAggregation "
    "formatReadableDecimalSize formatReadableQuantity formatReadableSize formatReadableTimeDelta getSubcolumn "
    "grouping identity ignore initializeAggregation isConstant isDecimalOverflow materialize neighbor "
    "parseReadableSize parseTimeDelta rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningDifference "
    "timezone toColumnTypeName toTypeName transform variantElement variantType version visibleWidth"
)
FUNCTION_NAME_MAX = 256
"""Characters. Longer ones are of nobody, and reading combinators off them takes long."""
_COMBINATORS = re.compile(
    r"(if|array|map|foreach|distinct|ordefault|ornull|state|merge|mergestate|simplestate|resample|argmin|argmax|null)$"
)
# Harmless ways of seeing the same result. Anything else that the URL sets is refused, as a real server's profile would.
_SETTINGS_ALLOWED = _words(
    "date_time_output_format output_format_json_quote_64bit_integers output_format_json_quote_decimals "
    "output_format_native_use_flattened_dynamic_and_json_serialization "
    "output_format_native_encode_types_in_binary_format "
    "session_timezone use_client_time_zone join_use_nulls input_format_native_decode_types_in_binary_format "
    "cancel_http_readonly_queries_on_client_close"
)


class ReaderGuard:
    """Judges the statements of one reader. Made once; the engine tells it which functions there are.

    `any_database`: the reader names its database, as billing does, whose database is a setting of the platform's.
    """

    def __init__(
        self, engine: Engine, settings: ClickHouseSettings, limits: ReaderLimits, *, any_database: bool = False
    ) -> None:
        self._user = limits.user
        self._any_database = any_database
        self._filters = limits.row_conditions() if limits.accounts else {}
        self._limits: dict[str, str | int] = limits.engine_settings() | {
            "max_result_bytes": min(limits.result_bytes_max, settings.buffered_answer_bytes_max),
            "max_query_size": settings.statement_bytes_max,
        }
        self._functions, self._aggregates, self._refused = _functions_of(engine)

    def database_for(self, asked: str | None) -> str:
        """The one database that the statement may read. Raises QueryError 81 where the reader may not name this one."""
        if not self._any_database or not asked:
            return DATABASE
        if not _DATABASE_NAME.fullmatch(asked) or asked.lower() in _NO_DATABASE_OF_OURS:
            raise QueryError(_UNKNOWN_DATABASE, f"Database {asked[:64]!r} cannot be read. (UNKNOWN_DATABASE)")
        return asked

    def settings_for(self, asked: Mapping[str, str], database: str) -> dict[str, str | int]:
        """The reader's limits and what of the URL's settings is harmless. Raises QueryError 164 for the others."""
        for name in asked:
            if name not in _SETTINGS_ALLOWED and name not in self._limits and name != "readonly":
                raise read_only(f"Cannot modify {name[:64]!r} setting in readonly mode.")
        allowed = {name: value for name, value in asked.items() if name in _SETTINGS_ALLOWED} | self._limits
        if self._filters:
            allowed["additional_table_filters"] = _map_literal(
                {f"{database}.{table}": condition for table, condition in self._filters.items()}
            )
        return allowed

    def check(self, connection: Any, query: Query, parameters: Mapping[str, str], database: str) -> None:
        """Raises QueryError unless this is one statement that reads, and nothing but what is allowed.

        `connection` is in `readonly` already, so that a SETTINGS clause can lift nothing while it is parsed here.
        """
        verdict = connection._conn.classify_query(query.bare, database)
        if verdict["query_class"].name != "READ_ONLY" or verdict["statement_count"] > 1:
            raise read_only(f"{self._user}: only one statement that reads can be run.")
        if query_of(query.bare.encode()).format is not None:
            raise self._denied("one FORMAT is enough.")
        # The parsed form does not show the UUID. This engine reads by the name beside it; a later one need not.
        if names_table_by_uuid(query.bare):
            raise self._denied("a table is named, not given by its UUID.")
        explained = connection.query(f"EXPLAIN AST {query.bare}", "TSV", params=dict(parameters))
        try:
            nodes = nodes_of((explained.bytes() or b"").decode())
        except Incomplete:
            raise self._denied("the statement cannot be judged.") from None
        if nodes[0].kind not in _ROOTS:
            raise read_only(f"{self._user}: only SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can be run.")
        shown = (connection.query("SHOW DATABASES", "TSV").bytes() or b"").decode()
        databases = frozenset(name.lower() for name in shown.split())
        for node in nodes:
            self._check_node(node, databases, database)

    def _check_node(self, node: Node, databases: frozenset[str], readable: str) -> None:
        if node.kind not in _KINDS:
            raise self._denied(f"{node.kind[:64]} is not allowed in a statement.")
        if node.kind == "Function" and not self._function_allowed(node.name):
            raise self._denied(f"the function {node.name[:64]} is not allowed.")
        if node.kind == "TableIdentifier" and not _table_allowed(node.name, readable):
            raise self._denied(f"only database {readable} can be read.")
        if node.kind == "Identifier":
            # Mostly a column. But `x IN system.users` names a table in the same form, and `arrayMap(file, ...)` a
            # function.
            database, _, rest = node.name.partition(".")
            # A database may stand alone, as in SHOW CREATE TABLE system.tables, which tells no row.
            alone = (readable, "system", "information_schema")
            if database in databases and not (_table_allowed(node.name, readable) if rest else database in alone):
                raise self._denied(f"only database {readable} can be read.")
            if node.name in self._refused:
                raise self._denied(f"the function {node.name[:64]} is not allowed, nor a column of this name.")

    def _function_allowed(self, name: str) -> bool:
        if name in self._functions or name in _TABLE_FUNCTIONS:
            return True
        if len(name) > FUNCTION_NAME_MAX:
            return False
        while (shorter := _COMBINATORS.sub("", name)) != name:
            name = shorter
            if name in self._aggregates:
                return True
        return False

    def _denied(self, sentence: str) -> QueryError:
        return QueryError(_ACCESS_DENIED, f"{self._user}: {sentence} (ACCESS_DENIED)")


def _map_literal(values: Mapping[str, str]) -> str:
    """A map as ClickHouse's settings take it."""
    return "{" + ", ".join(f"{_quoted(key)}: {_quoted(value)}" for key, value in values.items()) + "}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _table_allowed(name: str, readable: str) -> bool:
    """Whether a name with its dots is a table of the database (the current one), or a harmless system table."""
    database, _, rest = name.partition(".")
    if not rest or database in (readable, "information_schema"):
        return True
    return database == "system" and rest.split(".")[0] in _SYSTEM_TABLES


def _functions_of(engine: Engine) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """In lower case: the functions allowed, the aggregate functions among them, and all the others."""
    rows = engine.rows("SELECT name, alias_to, categories, is_aggregate FROM system.functions")
    category = {name.lower(): kind for name, _, kind, _ in rows}
    also = {name.lower() for name in _ALSO_ALLOWED}
    allowed = set(also)
    for name, alias_to, _, _ in rows:
        real = (alias_to or name).lower()
        if category.get(real, "") not in _CATEGORIES_REFUSED or real in also:
            allowed.add(name.lower())
    aggregates = frozenset(name.lower() for name, _, _, aggregate in rows if aggregate == "1")
    return frozenset(allowed), aggregates, frozenset(category) - allowed
