"""The lock files as they stand: Python packages with their hashes, Apache Kafka's jars with their checksums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REQUIREMENTS = PROJECT / "requirements"
KAFKA_SUMS = REQUIREMENTS / "kafka.sha256"

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=(sha256):([0-9a-f]{64})")
_JAR = re.compile(r"(.+?)-(\d[\w.-]*)\.jar")
_NAMES_AN_INDEX = re.compile(
    r"^\s*(-i|--index-url|--extra-index-url|-f|--find-links|--trusted-host)\b|https?://|git\+", re.M
)

# Group and licence of each jar, as its own manifest or project says; Kafka's and Jackson's are many and of one kind.
_JARS = {
    "HdrHistogram": ("org.hdrhistogram", "CC0-1.0 OR BSD-2-Clause"),
    "argparse4j": ("net.sourceforge.argparse4j", "MIT"),
    "caffeine": ("com.github.ben-manes.caffeine", "Apache-2.0"),
    "commons-beanutils": ("commons-beanutils", "Apache-2.0"),
    "commons-collections": ("commons-collections", "Apache-2.0"),
    "commons-digester": ("commons-digester", "Apache-2.0"),
    "commons-logging": ("commons-logging", "Apache-2.0"),
    "commons-validator": ("commons-validator", "Apache-2.0"),
    "hash4j": ("com.dynatrace.hash4j", "Apache-2.0"),
    "jackson-annotations": ("com.fasterxml.jackson.core", "Apache-2.0"),
    "jackson-core": ("com.fasterxml.jackson.core", "Apache-2.0"),
    "jackson-databind": ("com.fasterxml.jackson.core", "Apache-2.0"),
    "jackson-dataformat-csv": ("com.fasterxml.jackson.dataformat", "Apache-2.0"),
    "jackson-dataformat-yaml": ("com.fasterxml.jackson.dataformat", "Apache-2.0"),
    "jackson-datatype-jdk8": ("com.fasterxml.jackson.datatype", "Apache-2.0"),
    "jopt-simple": ("net.sf.jopt-simple", "MIT"),
    "jose4j": ("org.bitbucket.b_c", "Apache-2.0"),
    "jspecify": ("org.jspecify", "Apache-2.0"),
    "log4j-api": ("org.apache.logging.log4j", "Apache-2.0"),
    "log4j-core": ("org.apache.logging.log4j", "Apache-2.0"),
    "lz4-java": ("at.yawk.lz4", "Apache-2.0"),
    "metrics-core": ("com.yammer.metrics", "Apache-2.0"),
    "pcollections": ("org.pcollections", "MIT"),
    "re2j": ("com.google.re2j", "BSD-3-Clause"),
    "scala-library": ("org.scala-lang", "Apache-2.0"),
    "scala-logging_2.13": ("com.typesafe.scala-logging", "Apache-2.0"),
    "scala-reflect": ("org.scala-lang", "Apache-2.0"),
    "slf4j-api": ("org.slf4j", "MIT"),
    "slf4j-simple": ("org.slf4j", "MIT"),
    "snakeyaml": ("org.yaml", "Apache-2.0"),
    "snappy-java": ("org.xerial.snappy", "Apache-2.0"),
    "zstd-jni": ("com.github.luben", "BSD-2-Clause"),
}


class LockError(Exception):
    """A lock file is not what it must be; the text names file and line."""


@dataclass(frozen=True)
class Package:
    """One pinned part. `ecosystem` is `pypi` or `maven`; `hashes` are SHA-256 in hex; `group` is Maven's."""

    ecosystem: str
    name: str
    version: str
    hashes: tuple[str, ...]
    group: str = ""
    licence: str = ""

    @property
    def purl(self) -> str:
        """Its package URL."""
        path = f"{self.group}/{self.name}" if self.group else self.name
        return f"pkg:{self.ecosystem}/{path}@{self.version}"


def lock_files() -> list[Path]:
    """Every lock of Python packages."""
    return sorted(file for file in REQUIREMENTS.rglob("*.txt") if "node_modules" not in file.parts)


def packages_of(lock: Path) -> list[Package]:
    """The packages of a lock. Raises LockError for one without a hash, a line that pins nothing, or a named index."""
    text = lock.read_text(encoding="utf-8")
    where = lock.relative_to(PROJECT) if lock.is_relative_to(PROJECT) else lock
    if found := _NAMES_AN_INDEX.search(
        "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    ):
        raise LockError(f"{where} names where to fetch from ({found.group().strip()!r}); a lock must not")
    packages = []
    for line in _joined(text):
        pin = _PIN.match(line)
        if pin is None:
            raise LockError(f"{where}: {line[:60]!r} pins no version")
        hashes = tuple(digest for _, digest in _HASH.findall(line))
        if not hashes:
            raise LockError(f"{where}: {pin.group()} has no hash")
        packages.append(Package("pypi", normalised(pin.group(1)), pin.group(2), hashes))
    return packages


def kafka_jars(sums: Path = KAFKA_SUMS) -> list[Package]:
    """Apache Kafka's jars. Raises LockError for one whose group and licence are not written down here."""
    jars = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, file = line.split()
        named = _JAR.fullmatch(file)
        if named is None or len(digest) != 64:
            raise LockError(f"{sums.name}: {line[:80]!r} is no checksum of a jar")
        name, version = named.groups()
        known = ("org.apache.kafka", "Apache-2.0") if name.startswith("kafka") else _JARS.get(name)
        if known is None:
            raise LockError(
                f"{sums.name}: the jar {name} is new; write its group and licence into supply_chain/locks.py"
            )
        jars.append(Package("maven", name, version, (digest,), known[0], known[1]))
    return jars


def normalised(name: str) -> str:
    """A Python package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _joined(text: str) -> Iterator[str]:
    """Logical lines: a pin with its hashes. Comments are left out."""
    parts: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        parts.append(line.rstrip("\\").strip())
        if not line.rstrip().endswith("\\"):
            yield " ".join(parts)
            parts = []
    if parts:
        yield " ".join(parts)
