"""The SBOM (CycloneDX 1.6, JSON) of all lock files: `python -m supply_chain.sbom [FILE]`, else `build/sbom.cdx.json`.

It lists what is pinned, not what is installed (that tells the licences), and holds no time: the same locks give the
same bytes. Written without a library, which would be one more part to list.
"""

from __future__ import annotations

import json
import sys
import tomllib
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from supply_chain.licences import installed
from supply_chain.locks import PROJECT, Package, kafka_jars, lock_files, packages_of

TARGET = PROJECT / "build" / "sbom.cdx.json"
_OURS = uuid.uuid5(uuid.NAMESPACE_URL, "hydra-serving")


def document(licences: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The whole SBOM. `licences` are those known here: by Python package, version and licence."""
    used_by: dict[Package, set[str]] = defaultdict(set)
    for lock in lock_files():
        for package in packages_of(lock):
            used_by[package].add(lock.relative_to(PROJECT / "requirements").as_posix())
    for jar in kafka_jars():
        used_by[jar].add("kafka.sha256")
    merged: dict[str, tuple[Package, set[str]]] = {}
    for package, locks in sorted(used_by.items(), key=lambda item: (item[0].purl, item[0].hashes)):
        known, names = merged.get(package.purl, (package, set()))
        # Two locks may pin other files of one version, for other platforms.
        hashes = tuple(sorted({*known.hashes, *package.hashes}))
        whole = Package(known.ecosystem, known.name, known.version, hashes, known.group, known.licence)
        merged[package.purl] = (whole, names | locks)
    components = [_component(package, sorted(names), licences) for package, names in merged.values()]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    us = {
        "type": "application",
        "bom-ref": f"pkg:generic/{project['name']}@{project['version']}",
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": project["license"]}}],
    }
    content = json.dumps([us, components], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_OURS, content)}",
        "version": 1,
        "metadata": {"component": us},
        "components": components,
        "dependencies": [{"ref": us["bom-ref"], "dependsOn": [one["bom-ref"] for one in components]}],
    }


def _component(package: Package, locks: list[str], licences: dict[str, tuple[str, str]]) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "properties": [{"name": "hydra:lock", "value": lock} for lock in locks],
    }
    if package.group:
        component["group"] = package.group
    if len(package.hashes) == 1:
        component["hashes"] = [{"alg": "SHA-256", "content": package.hashes[0]}]
    else:
        # One hash for each file of this version: its wheels and its source. `hashes` would mean one file.
        component["properties"] += [{"name": "hydra:sha256", "value": digest} for digest in package.hashes]
    version, licence = licences.get(package.name, ("", ""))
    licence = package.licence or (licence if version == package.version and package.ecosystem == "pypi" else "")
    if licence:
        component["licenses"] = [{"license": {"name": licence}} if "(" in licence else {"expression": licence}]
    return component


def main(arguments: list[str]) -> int:
    """Writes the file and says where it is."""
    target = Path(arguments[0]) if arguments else TARGET
    found = document(installed())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {len(found['components'])} components of {len(lock_files()) + 1} lock files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
