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


def test_a_key_is_found_by_its_hash_alone() -> None:
    key = api_key(b"\x01" * 32)
    assert key_hash(key) != key and len(key_hash(key)) == 64
    near = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert key_hash(near)[:8] != key_hash(key)[:8]
