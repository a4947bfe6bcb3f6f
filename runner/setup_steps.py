"""One command of the set-up at a time: its line of progress, its log, and the reason when it fails.

Runs with any Python's standard library alone, before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LOG_FILE = PROJECT / ".tools" / "setup.log"

STEP_TIMEOUT_S = 3600
LOG_BYTES_MAX = 1 << 20
POLL_S = 0.2

# How uv draws its errors.
CROSS = "\u00d7"
CAUSE_ARROW = "\u2570\u2500\u25b6"
ORNAMENTS = f"{CROSS}{CAUSE_ARROW} "

NETWORK_WORDS = ("timed out", "connect", "dns", "resolve host", "fetch", "no matching distribution", "network")


class SetupError(Exception):
    """A step failed; the text is one line that names the cause and what to do."""


def run(step: str, command: list[str], environment: dict[str, str] | None = None, log_file: Path = LOG_FILE) -> None:
    """Runs one command, says so in one line, and keeps its output in `log_file`.

    Raises SetupError with the reason that the command itself gave.
    """
    with tempfile.TemporaryFile() as output:
        code = _run_shown(step, command, {**os.environ, **(environment or {})}, output.fileno())
        output.seek(0)
        text = output.read().decode(errors="replace")
    _log(log_file, step, text)
    if code != 0:
        raise SetupError(f"{step}: {reason_in(text)} {advice_for(text)} (all of its output: {log_file})")


def _run_shown(step: str, command: list[str], environment: dict[str, str], output: int) -> int:
    begun = time.monotonic()
    terminal = sys.stdout.isatty()
    print(f"set-up: {step} ...", end="", flush=True)
    ending = "broken off"
    try:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            code = None
            while code is None:
                try:
                    code = process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    elapsed_s = time.monotonic() - begun
                    if elapsed_s > STEP_TIMEOUT_S:
                        raise SetupError(f"{step}: not done after {STEP_TIMEOUT_S} s; run the same again") from None
                    if terminal:
                        print(f"\rset-up: {step} ... {elapsed_s:.0f} s", end="", flush=True)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        ending = "done" if code == 0 else "failed"
        return code
    except OSError as error:
        raise SetupError(f"{step}: {error}") from None
    finally:
        start = f"\rset-up: {step} ..." if terminal else ""
        print(f"{start} {ending} after {time.monotonic() - begun:.0f} s", flush=True)


def _log(log_file: Path, step: str, text: str) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
        log_file.unlink()
    with log_file.open("a", encoding="utf-8") as log:
        log.write(f"== {step}\n{text}\n")


def reason_in(output: str) -> str:
    """The one line of a failed command's output that names its cause, ending in a full stop."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # uv prints a chain with the root last; pip prints lines of `ERROR:`, of which the first is the cause.
    causes = [line.lstrip(ORNAMENTS) for line in lines if "Caused by:" in line or CAUSE_ARROW in line]
    errors = [line.lstrip(ORNAMENTS) for line in lines if line.lower().startswith(("error", CROSS))]
    reason = (causes[-1:] or errors or lines[-1:] or ["it failed without a message"])[0]
    return reason.removeprefix("Caused by:").strip().rstrip(".") + "."


def advice_for(output: str) -> str:
    """What to do about a failed command, told from its output."""
    text = output.lower()
    if "no space left" in text:
        return "Free some disk space, then run the same command again"
    if "hash" in text and ("mismatch" in text or "do not match" in text):
        return "What was downloaded is not what the lock pins: check the package index that this machine uses"
    if "sha-256" in text:
        return "What was downloaded is not what Hydra pins: check the Maven repository that this machine uses"
    if any(word in text for word in NETWORK_WORDS):
        return "Check the network and the package index that pip is configured with, then run the same command again"
    return "Run the same command again; if that does not help, `make clean` first"


def fingerprint(*inputs: str | Path) -> str:
    """One hash over texts and the contents of files."""
    digest = hashlib.sha256()
    for item in inputs:
        digest.update(item.read_bytes() if isinstance(item, Path) else item.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def is_current(stamp: Path, wanted: str) -> bool:
    """Whether the step that wrote this stamp was done to its end with these inputs."""
    try:
        return stamp.read_text(encoding="utf-8") == wanted
    except OSError:
        return False


def write_stamp(stamp: Path, value: str) -> None:
    """Says that a step is done. A stamp lies inside the folder that it vouches for, so both go together."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    scratch = stamp.with_name(f"{stamp.name}.{os.getpid()}")
    scratch.write_text(value, encoding="utf-8")
    scratch.replace(stamp)
