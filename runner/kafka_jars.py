"""Brings Apache Kafka's jars into `.tools/kafka/libs`: resolved by Maven coordinates, checked against pinned sums.

`python -m runner.kafka_jars` does it; a second run finds every sum in order and needs no network.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"

PROJECT = Path(__file__).resolve().parent.parent
SUMS_FILE = PROJECT / "requirements" / "kafka.sha256"
LIBS = PROJECT / ".tools" / "kafka" / "libs"

RESOLVE_TIMEOUT_S = 900
REQUEST_TIMEOUT_S = 60
READ_BYTES = 1 << 20


class JarError(Exception):
    """A jar is missing, unknown or not the pinned one, or the jars cannot be fetched; the text names the cause."""


def read_sums(sums_file: Path = SUMS_FILE) -> dict[str, str]:
    """The pinned sums, jar name to SHA-256 in hex; the file is in the format of `sha256sum`."""
    sums: dict[str, str] = {}
    for line in sums_file.read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        sums[name] = digest
    return sums


def check_jars(libs: Path, sums: dict[str, str]) -> None:
    """Raises JarError that names the first jar which is missing, unknown or differs from its pinned sum."""
    found = {path.name: path for path in libs.glob("*.jar")}
    for name, expected in sums.items():
        if name not in found:
            raise JarError(f"{name} is missing in {libs}")
        if _sha256(found[name]) != expected:
            raise JarError(f"{name} does not have the SHA-256 that requirements/kafka.sha256 pins")
    # The class path is `libs/*`: a jar that nobody pinned would be run as well.
    for name in sorted(found.keys() - sums.keys()):
        raise JarError(f"{name} is in {libs} but not in requirements/kafka.sha256")


def ensure_jars(libs: Path = LIBS, sums_file: Path = SUMS_FILE) -> bool:
    """Fetches the jars unless `libs` already holds exactly the pinned ones; True when it fetched.

    The jars appear under `libs` all at once and only after their sums were checked, so that an interrupted run
    leaves nothing that looks complete. Raises JarError.
    """
    sums = read_sums(sums_file)
    try:
        check_jars(libs, sums)
        return False
    except JarError:
        pass
    libs.parent.mkdir(parents=True, exist_ok=True)
    for left_over in libs.parent.glob("fetch-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=libs.parent) as scratch_name:
        scratch = Path(scratch_name)
        fetched = scratch / "libs"
        fetched.mkdir()
        for jar in _resolve(scratch):
            jar.rename(fetched / jar.name)
        check_jars(fetched, sums)
        if libs.exists():
            shutil.rmtree(libs)
        fetched.rename(libs)
    return True


def _resolve(scratch: Path) -> list[Path]:
    jgo = Path(sys.executable).with_name("jgo")
    command = [str(jgo), "--ignore-config", "--resolver", "python", "--links", "copy", "--color", "plain"]
    command += ["--repo-cache", str(scratch / "maven"), "--cache-dir", str(scratch / "jgo")]
    command += ["--timeout", str(REQUEST_TIMEOUT_S), "info", "jars", COORDINATES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RESOLVE_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise JarError(f"{jgo} is missing: install the Python environment first (make demo or make test)") from None
    except subprocess.TimeoutExpired:
        raise JarError(f"fetching Apache Kafka's jars took more than {RESOLVE_TIMEOUT_S} s") from None
    if done.returncode != 0:
        last_line = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
        raise JarError(f"Apache Kafka's jars cannot be fetched from the Maven repository: {last_line}")
    # jgo sorts jars into a class path and a module path; Kafka runs with all of them on the class path.
    return list((scratch / "jgo").rglob("*.jar"))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def main() -> int:
    """Exit code 0 with the jars in place, 1 with one line that names the cause."""
    try:
        fetched = ensure_jars()
    except JarError as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1
    print(f"Apache Kafka {KAFKA_VERSION}: {'fetched' if fetched else 'in place'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
