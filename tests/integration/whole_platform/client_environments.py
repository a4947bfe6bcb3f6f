"""Environments of their own for the official clients, made once from their lock files and kept in .tools/clients."""

from __future__ import annotations

from pathlib import Path

from runner.environments import make_environment
from tests.servers.npm import node, npm_ci

ROOT = Path(__file__).resolve().parent.parent.parent.parent
CLIENTS = ROOT / ".tools" / "clients"
LOCKS = ROOT / "requirements" / "clients"


def python_with(client: str) -> Path:
    """The Python of an environment that holds `openai` or `openai-0.28`."""
    return make_environment(CLIENTS / client, LOCKS / f"{client}.txt")


def node_with_openai() -> tuple[Path, Path]:
    """(node, a folder in which `openai` can be imported), by `npm ci` from the lock file."""
    folder = CLIENTS / "node"
    npm_ci(LOCKS / "node", folder)
    return node(), folder
