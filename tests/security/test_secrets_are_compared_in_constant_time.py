"""What decides by a secret compares it as a whole, in a time that tells nothing; or looks it up by its hash."""

import ast
from pathlib import Path

import pytest

from domain.ids import api_key, key_hash

ROOT = Path(__file__).resolve().parents[2]
DECIDES = {
    "adapters/api_keys.py": "principal",
    "services/clickhouse/users.py": "authenticate",
    "services/worker/simulated_engine/server.py": "_may",
}


@pytest.mark.parametrize(("file", "function"), DECIDES.items())
def test_the_deciding_comparison_is_hmacs(file: str, function: str) -> None:
    """Read from the code: a time that differs by nanoseconds cannot be tried by a test."""
    tree = ast.parse((ROOT / file).read_text())
    (found,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    ]
    calls = [ast.unparse(node.func) for node in ast.walk(found) if isinstance(node, ast.Call)]
    assert "hmac.compare_digest" in calls
    secret = ("token", "password", "expected", "digest", "_key")
    compared = [ast.unparse(node) for node in ast.walk(found) if isinstance(node, ast.Compare)]
    equalities = [text for text in compared if ("==" in text or "!=" in text) and any(word in text for word in secret)]
    assert equalities == []


SECRET_WORDS = frozenset({"token", "secret", "password", "credential", "credentials", "digest", "signature"})
SECRET_NAMES = frozenset({"api_key", "_api_key", "engine_key", "key_hash", "_key_hash"})
HARMLESS = frozenset(
    {
        "adapters/secret_files.py: name == OPERATOR_TOKEN",  # the name of the secret's file
        "services/clickhouse/statements.py: token.lastgroup == 'word'",  # a token of SQL
    }
)


def comparisons_of_secrets(code: str) -> list[str]:
    """Each `==` or `!=` in `code` of which a side is named like a secret; `is None` and membership are none."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops)
        if any(_named_like_a_secret(side) for side in (node.left, *node.comparators))
    ]


def _named_like_a_secret(side: ast.expr) -> bool:
    named = [node.id for node in ast.walk(side) if isinstance(node, ast.Name)]
    named += [node.attr for node in ast.walk(side) if isinstance(node, ast.Attribute)]
    # `key` alone is mostly an entry of a mapping, `tokens` what a model counts.
    return any(SECRET_WORDS & set(name.lower().split("_")) or name in SECRET_NAMES for name in named)


def test_no_other_comparison_decides_by_a_secret() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for folder in ("adapters", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in comparisons_of_secrets(path.read_text())
    ]
    assert set(found) == HARMLESS


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("if shown == self._operator_token: pass", 1),
        ("allowed = request.headers['key'] != settings.password.get_secret_value()", 1),
        ("if sha256(key).hexdigest() == row.key_hash: pass", 1),
        ("if expected_digest == found: pass", 1),
        ("if prompt_tokens == 0 or token is None or key in secrets: pass", 0),
    ],
)
def test_the_search_finds_such_comparisons(code: str, count: int) -> None:
    assert len(comparisons_of_secrets(code)) == count


def test_a_key_is_found_by_its_hash_alone() -> None:
    key = api_key(b"\x01" * 32)
    assert key_hash(key) != key and len(key_hash(key)) == 64
    near = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert key_hash(near)[:8] != key_hash(key)[:8]
