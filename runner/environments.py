"""Python environments from hash-locked files: uv in a folder of its own, virtual environments, stamps of what is done.

Runs with any Python's standard library alone, before anything is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from runner.pip_settings import has_pip, uv_environment
from runner.setup_steps import PROJECT, SetupError, fingerprint, is_current, run, write_stamp

TOOLS = PROJECT / ".tools"
REQUIREMENTS = PROJECT / "requirements"
UV_FOLDER = TOOLS / "uv"
UV = UV_FOLDER / "bin" / "uv"


def ensure_uv() -> None:
    """Installs the pinned uv by pip into `.tools/uv` unless it is there. Raises SetupError.

    `--target` works for a Python that the system manages (PEP 668) as well, and needs no venv module.
    """
    lock = REQUIREMENTS / "tools.txt"
    wanted = fingerprint(lock, sys.platform)
    stamp = UV_FOLDER / ".stamp"
    if is_current(stamp, wanted) and UV.exists():
        return
    if not has_pip():
        raise SetupError(f"{sys.executable} has no pip: install it (on Debian and Ubuntu: apt install python3-pip)")
    shutil.rmtree(UV_FOLDER, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--require-hashes", "--only-binary=:all:", "--no-deps", "--target", str(UV_FOLDER), "-r", str(lock)]
    run("installing uv", command)
    write_stamp(stamp, wanted)


def ensure_environment(folder: Path) -> None:
    """Makes an empty virtual environment of the running Python at `folder` unless it is there. Raises SetupError.

    An environment of another Python, of a moved checkout, or one that does not run is made anew.
    """
    wanted = fingerprint(str(folder), sys.version, sys.base_prefix)
    stamp = folder / ".stamps" / "environment"
    if is_current(stamp, wanted) and python_of(folder).exists():
        return
    if not _is_sound(folder):
        command = [str(UV), "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(folder)]
        run(f"making the Python environment {folder.relative_to(PROJECT)}", command, uv_environment())
    write_stamp(stamp, wanted)


def ensure_packages(folder: Path, lock: Path, *, lock_is_whole: bool = False) -> None:
    """Installs a hash-locked file into the environment at `folder` unless it is there. Raises SetupError.

    `lock_is_whole`: what a package of the lock asks for and the lock lacks is left out on purpose.
    """
    wanted = fingerprint(lock)
    stamp = folder / ".stamps" / lock.stem
    if is_current(stamp, wanted):
        return
    stamp.unlink(missing_ok=True)
    command = [str(UV), "pip", "install", "--quiet", "--python", str(python_of(folder)), "--require-hashes"]
    # Compiled here once: otherwise a dozen processes compile the same files at the platform's first start.
    command += ["--compile-bytecode", "-r", str(lock)]
    if lock_is_whole:
        command.append("--no-deps")
    begun = stamp.with_suffix(".begun")
    if begun.exists():
        # An installation that was cut off may have left packages that are listed but not whole.
        command.append("--reinstall")
    write_stamp(begun, wanted)
    run(f"installing {lock.relative_to(PROJECT)}", command, uv_environment())
    write_stamp(stamp, wanted)
    begun.unlink()


def make_environment(folder: Path, lock: Path) -> Path:
    """An environment of its own for a program beside the platform, such as a client; returns its Python.

    `folder` lies under `.tools`, `lock` is a requirements file with hashes. Does nothing when it is current; the
    running Python becomes the environment's. Raises SetupError.
    """
    ensure_uv()
    ensure_environment(folder)
    ensure_packages(folder, lock)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """The Python of the environment at `folder`."""
    return folder / "bin" / "python"


def _is_sound(folder: Path) -> bool:
    if not (folder / "pyvenv.cfg").exists():
        return False
    question = "import sys; print(sys.version, sys.base_prefix, sys.prefix)"
    command = [str(python_of(folder)), "-I", "-c", question]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f"{sys.version} {sys.base_prefix} {folder}"
