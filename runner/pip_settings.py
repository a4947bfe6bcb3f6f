"""What pip was told about indexes and certificates, in uv's words.

A machine that reaches packages only through a mirror has it in pip's configuration, which uv does not read.
Runs with any Python's standard library alone, before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
}
CERTIFICATE_NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")

# pip's own order: a later section wins.
SECTIONS = ("global", "install", ":env:")


def has_pip() -> bool:
    """Whether this Python can install anything."""
    done = subprocess.run([sys.executable, "-I", "-m", "pip", "--version"], capture_output=True, check=False)
    return done.returncode == 0


def uv_environment() -> dict[str, str]:
    """Variables for uv; what the environment already sets for uv wins. Values may hold a mirror's password."""
    settings = _read()
    found = {"UV_NO_PROGRESS": "1", "UV_HTTP_TIMEOUT": "120"}
    for name, value in settings.items():
        if name == "find-links":
            # pip passes over a folder that is not there, uv refuses it.
            value = ",".join(place for place in value.split() if "://" in place or Path(place).is_dir())
        if name in UV_NAMES and value:
            found[UV_NAMES[name]] = value
    found.update(_certificates(settings))
    return {name: value for name, value in found.items() if name not in os.environ}


def certificate_environment() -> dict[str, str]:
    """Variables that make OpenSSL and requests trust what pip was told to trust."""
    return {name: value for name, value in _certificates(_read()).items() if name not in os.environ}


def _certificates(settings: dict[str, str]) -> dict[str, str]:
    file = settings.get("cert")
    return dict.fromkeys(CERTIFICATE_NAMES, file) if file else {}


def _read() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return settings_in(done.stdout)


def settings_in(listing: str) -> dict[str, str]:
    """The settings in `pip config list`, whose lines look like `global.index-url='https://...'`."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in by_section:
            by_section[section][key] = value.strip("'\"").replace("\\n", " ").strip()
    merged: dict[str, str] = {}
    for section in SECTIONS:
        merged.update(by_section[section])
    return merged
