"""Are the locks whole, is what is installed what is locked, is a flaw known of it: `python -m supply_chain.audit`.

The first two need no network. The third asks OSV.dev, as pip-audit can; where it cannot be reached the audit says so
and does not pretend to have asked. `--offline` leaves it out.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from supply_chain.licences import OURS
from supply_chain.locks import REQUIREMENTS, LockError, Package, kafka_jars, lock_files, normalised, packages_of

OSV_URL = "https://api.osv.dev/v1/querybatch"
ASKED_AT_ONCE_MAX = 500
TIMEOUT_S = 30
ANSWER_BYTES_MAX = 16 << 20


class NotAsked(Exception):
    """OSV cannot be reached or answers nonsense; the text says which."""


def lock_faults(locks: Sequence[Path]) -> list[str]:
    """One line for each lock that lacks a hash, pins nothing or names an index."""
    found = []
    for lock in locks:
        try:
            packages_of(lock)
        except LockError as error:
            found.append(str(error))
    try:
        kafka_jars()
    except LockError as error:
        found.append(str(error))
    return found


def installed_faults(lock: Path, present: dict[str, str]) -> list[str]:
    """What of `present` (name to version) is not in the lock, or there in another version. What a lock holds for other
    platforms or Pythons may be absent."""
    locked: dict[str, set[str]] = {}
    for package in packages_of(lock):
        locked.setdefault(package.name, set()).add(package.version)
    found = []
    for name, version in sorted(present.items()):
        if version not in locked.get(name, set()):
            instead = f"locks {', '.join(sorted(locked[name]))}" if name in locked else "does not have it"
            found.append(f"{name} {version} is installed, but {lock.name} {instead}")
    return found


def present_here() -> dict[str, str]:
    """By name: the version of every package of the running environment but our own."""
    found = {normalised(one.metadata["Name"]): one.version for one in distributions()}
    found.pop(OURS, None)
    return found


def known_flaws(packages: Sequence[Package], url: str = OSV_URL) -> list[str]:
    """One line for each package of which OSV knows a flaw. Raises NotAsked."""
    found = []
    for start in range(0, len(packages), ASKED_AT_ONCE_MAX):
        asked = packages[start : start + ASKED_AT_ONCE_MAX]
        body = json.dumps({"queries": [{"package": {"purl": package.purl}} for package in asked]}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 our own constant
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                results = json.loads(answer.read(ANSWER_BYTES_MAX))["results"]
            if len(results) != len(asked):
                raise ValueError(f"{len(results)} answers to {len(asked)} questions")
            for package, result in zip(asked, results, strict=True):
                if ids := [flaw["id"] for flaw in result.get("vulns", [])]:
                    found.append(f"{package.name} {package.version}: {', '.join(ids)}")
        except (OSError, urllib.error.URLError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotAsked(f"{url}: {error}") from error
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 where nothing was found; 1 with a line for each fault or flaw."""
    found = lock_faults(lock_files())
    if not found:
        found += installed_faults(REQUIREMENTS / "dev.txt", present_here())
    print(f"locks: {len(lock_files())} files and Kafka's sums, every pin with its hashes; installed: held to dev.txt")
    if "--offline" in arguments:
        print("known flaws: not asked (--offline)")
    elif not found:
        packages = {package.purl: package for lock in lock_files() for package in packages_of(lock)}
        packages |= {jar.purl: jar for jar in kafka_jars()}
        try:
            flaws = known_flaws(list(packages.values()))
            print(f"known flaws: OSV.dev asked about {len(packages)} packages, {len(flaws)} with flaws")
            found += flaws
        except NotAsked as error:
            print(f"known flaws: NOT ASKED, the network does not allow it ({error})")
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
