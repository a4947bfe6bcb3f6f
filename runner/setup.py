"""Makes a fresh checkout ready to run: `python3 -m runner.setup platform`, called by the Makefile.

Needs Python 3.11 to 3.13 with pip, nothing else. Every step is skipped when its stamp says that it was done with these
inputs, so that a second run is quick and needs no network; a step that was cut off is done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator

from runner import environments
from runner.environments import REQUIREMENTS, TOOLS, UV
from runner.pip_settings import certificate_environment
from runner.setup_steps import PROJECT, SetupError, fingerprint, is_current, run, write_stamp

OLDEST = (3, 11)
NEWEST = (3, 13)
ENVIRONMENT = PROJECT / ".venv"
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def check_machine() -> None:
    """Raises SetupError when this Python or system is none that the platform runs on."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"this is Python {version} ({sys.executable}), Hydra needs 3.11, 3.12 or 3.13. "
            "Name one: make PYTHON=python3.12 <target>"
        )
    if not sys.platform.startswith("linux"):
        raise SetupError(f"Hydra runs on Linux, this is {sys.platform}. Use a Linux machine, WSL or a container")


def ensure_platform_packages() -> None:
    """What the platform needs; the lock of the tests holds all of it in the same versions."""
    dev = REQUIREMENTS / "dev.txt"
    if not is_current(ENVIRONMENT / ".stamps" / dev.stem, fingerprint(dev)):
        environments.ensure_packages(ENVIRONMENT, REQUIREMENTS / "platform.txt")


def ensure_dev_packages() -> None:
    """What the platform and its tests need."""
    environments.ensure_packages(ENVIRONMENT, REQUIREMENTS / "dev.txt")


def ensure_project() -> None:
    """Installs Hydra itself as links to this checkout, so that `.venv/bin/hydra` exists."""
    stamp = ENVIRONMENT / ".stamps" / "project"
    packages = sorted(path.parent.name for path in PROJECT.glob("*/__init__.py"))
    wanted = fingerprint(PROJECT / "pyproject.toml", *packages)
    if is_current(stamp, wanted) and (ENVIRONMENT / "bin" / "hydra").exists():
        return
    command = [str(UV), "pip", "install", "--quiet", "--python", str(environments.python_of(ENVIRONMENT)), "--offline"]
    command += ["--no-deps", "--no-build-isolation", "--editable", str(PROJECT)]
    run("installing Hydra itself", command)
    write_stamp(stamp, wanted)


def ensure_kafka() -> None:
    """Fetches Apache Kafka's jars and checks their sums; once checked, they are not read again."""
    stamp = TOOLS / "kafka" / "libs" / ".stamp"
    wanted = fingerprint(REQUIREMENTS / "kafka.sha256", PROJECT / "runner" / "kafka_jars.py")
    if is_current(stamp, wanted):
        return
    command = [str(environments.python_of(ENVIRONMENT)), "-m", "runner.kafka_jars"]
    run("fetching Apache Kafka", command, certificate_environment())
    write_stamp(stamp, wanted)


def set_up_platform() -> None:
    """For `make demo` and `make up`."""
    environments.ensure_uv()
    environments.ensure_environment(ENVIRONMENT)
    ensure_platform_packages()
    ensure_project()
    ensure_kafka()


def set_up_dev() -> None:
    """For `make test` and `make check`."""
    environments.ensure_uv()
    environments.ensure_environment(ENVIRONMENT)
    ensure_dev_packages()
    ensure_project()
    ensure_kafka()


TARGETS = {"uv": environments.ensure_uv, "platform": set_up_platform, "dev": set_up_dev}


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Two set-ups of one checkout at a time would undo each other's work: the second waits, and says so."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: another set-up of this checkout is running, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Exit code 0 with everything in place, 1 with one line that names the cause and what to do."""
    if len(arguments) != 1 or arguments[0] not in TARGETS:
        print(f"usage: python3 -m runner.setup {'|'.join(TARGETS)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        check_machine()
        with only_one():
            TARGETS[arguments[0]]()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("set-up: interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
