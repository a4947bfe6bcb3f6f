"""Everything that is run is pinned by hash, is what was pinned, and is under a licence that may be used."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from supply_chain.audit import NotAsked, installed_faults, known_flaws, lock_faults, present_here
from supply_chain.licences import TARGET, faults, installed, is_allowed
from supply_chain.locks import REQUIREMENTS, LockError, Package, kafka_jars, lock_files, packages_of
from supply_chain.sbom import document

DIGEST = "a" * 64
PIN = f"one==1.0 \\\n    --hash=sha256:{DIGEST}\n"


def test_every_lock_is_whole() -> None:
    assert lock_faults(lock_files()) == []
    names = {lock.name for lock in lock_files()}
    assert {"platform.txt", "dev.txt", "tools.txt", "sglang-cpu.txt"} <= names


def test_what_is_installed_is_what_is_locked() -> None:
    assert installed_faults(REQUIREMENTS / "dev.txt", present_here()) == []


def test_every_licence_may_be_used() -> None:
    assert faults() == []


def test_the_page_of_licences_has_every_package_as_it_is_installed() -> None:
    """What other Pythons need besides is not in the page, which is written by one."""
    rows = TARGET.read_text().splitlines()
    locked = {package.name for package in packages_of(REQUIREMENTS / "dev.txt")}
    lacking = [
        name
        for name, (version, licence) in installed().items()
        if name in locked and not [row for row in rows if row.startswith(f"| `{name}` | {version} | {licence} |")]
    ]
    if sys.version_info[:2] == (3, 11):
        assert lacking == [], "make licences writes the page anew"
    for jar in kafka_jars():
        assert f"| `{jar.group}:{jar.name}` | {jar.version} | {jar.licence} | Apache Kafka |" in rows


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("Proprietary", False),
        ("not said", False),
        ("", False),
        ("GPL-2.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
    ],
)
def test_what_a_licence_allows(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one==1.0\n", "has no hash"),
        (f"one>=1.0 --hash=sha256:{DIGEST}\n", "pins no version"),
        (f"one @ https://elsewhere/one.whl --hash=sha256:{DIGEST}\n", "where to fetch from"),
        (f"--index-url https://elsewhere\n{PIN}", "where to fetch from"),
        (f"--extra-index-url=x\n{PIN}", "where to fetch from"),
        (f"git+ssh://elsewhere/one\n{PIN}", "where to fetch from"),
        (f"{PIN}two==2.0 \\\n    --hash=md5:{'b' * 32}\n", "two==2.0 has no hash"),
    ],
)
def test_a_lock_that_is_not_one_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(LockError, match=said):
        packages_of(tmp_path / "x.txt")
    assert packages_of(write(tmp_path / "y.txt", PIN)) == [Package("pypi", "one", "1.0", (DIGEST,))]


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_a_package_that_slipped_in_or_is_another_version_is_named(tmp_path: Path) -> None:
    lock = write(tmp_path / "x.txt", PIN)
    assert installed_faults(lock, {"one": "1.0"}) == []
    (other, extra) = installed_faults(lock, {"one": "1.1", "two": "2"})
    assert other == "one 1.1 is installed, but x.txt locks 1.0"
    assert extra == "two 2 is installed, but x.txt does not have it"


def test_a_jar_that_is_new_must_be_written_down(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="the jar new-one is new"):
        kafka_jars(write(tmp_path / "kafka.sha256", f"{DIGEST}  new-one-1.0.jar\n"))
    with pytest.raises(LockError, match="no checksum"):
        kafka_jars(write(tmp_path / "kafka.sha256", "ab  kafka-clients-4.jar\n"))


SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies"],
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"},
        "components": {
            "type": "array",
            "items": {
                "required": ["type", "bom-ref", "name", "version", "purl"],
                "properties": {"purl": {"pattern": r"^pkg:(pypi/[a-z0-9-]+|maven/[\w.-]+/[\w.-]+)@\S+$"}},
            },
        },
    },
}
"""The part of CycloneDX 1.6 that is used; its own schema is not among the packages."""


def test_the_sbom_lists_every_pin_with_its_hashes_once() -> None:
    made = document({})
    jsonschema.validate(made, SHAPE)
    assert made == document({}), "the same locks, another SBOM"
    references = [one["bom-ref"] for one in made["components"]]
    assert len(references) == len(set(references))
    by_purl = {one["purl"]: json.dumps(one) for one in made["components"]}
    pinned = [package for lock in lock_files() for package in packages_of(lock)] + kafka_jars()
    assert {package.purl for package in pinned} == set(by_purl)
    assert [package.purl for package in pinned for one in package.hashes if one not in by_purl[package.purl]] == []
    assert made["dependencies"][0]["dependsOn"] == references


@contextmanager
def osv(answer: Callable[[Any], bytes]) -> Iterator[str]:
    """A service that answers as OSV.dev is documented to."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = answer(asked)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_known_flaws_are_named_and_silence_is_not_taken_for_none() -> None:
    packages = [Package("pypi", name, "1.0", (DIGEST,)) for name in ("good", "bad")]

    def one_is_bad(asked: Any) -> bytes:
        bad = [{"vulns": [{"id": "GHSA-x"}]} if "bad" in one["package"]["purl"] else {} for one in asked["queries"]]
        return json.dumps({"results": bad}).encode()

    with osv(one_is_bad) as url:
        assert known_flaws(packages, url) == ["bad 1.0: GHSA-x"]
    for nonsense in (b"", b"[]", b"{}", b'{"results": []}', b"<html>"):
        with osv(lambda _, body=nonsense: body) as url, pytest.raises(NotAsked):  # type: ignore[misc]
            known_flaws(packages, url)
    with pytest.raises(NotAsked):
        known_flaws(packages, "http://127.0.0.1:1/")
