"""The first step of the compose file: makes the platform's secrets, and hands each reader those that it reads.

Each is random, made once and never overwritten. The whole set is in one volume, which is mounted where the operator's
command runs. Every other reader has a volume of its own with copies of what it needs: a node runs code that comes with
models, and must not hold the operator's token. ClickHouse and Grafana run as users of their own, so theirs are readable
by all.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, BILLING
from adapters.errors import EXIT_MISCONFIGURED, Misconfigured
from adapters.settings import PlatformSettings

BILLING_USER_SETTING = "HYDRA_BILLING_CLICKHOUSE_USER"
OWNERS_ONLY = 0o600
READABLE = 0o444


def handed_to_readers(billing_user: str) -> Mapping[str, tuple[str, ...]]:
    """Which secrets the volume of each reader holds; billing's password is that of the ClickHouse user it reads as."""
    billing_password = (
        secret_files.CLICKHOUSE_ADMIN_PASSWORD if billing_user == ADMIN else secret_files.BILLING_PASSWORD
    )
    return {
        "gateway": (secret_files.CLUSTER_SECRET,),
        "node": (secret_files.CLUSTER_SECRET,),
        "lifecycle": (secret_files.OPERATOR_TOKEN,),
        "billing": (secret_files.OPERATOR_TOKEN, billing_password),
        "warehouse": (secret_files.CLICKHOUSE_ADMIN_PASSWORD,),
        "analyst": (
            secret_files.CLICKHOUSE_ADMIN_PASSWORD,
            secret_files.ANALYST_PASSWORD,
            secret_files.BILLING_PASSWORD,
        ),
    }


def main() -> int:
    """Exit code 0 once every file is there, else 1 with one line that names the cause."""
    platform = PlatformSettings()
    handed = platform.home / "handed"
    try:
        secret_files.make_missing(platform.secrets_dir)
        whole = {name: secret_files.read(platform.secrets_dir, name) for name in secret_files.ALL}
        for reader, names in handed_to_readers(os.environ.get(BILLING_USER_SETTING, BILLING)).items():
            _hold_exactly(handed / reader, {name: whole[name] for name in names})
        _put(handed / "clickhouse" / "password", whole[secret_files.CLICKHOUSE_ADMIN_PASSWORD], READABLE)
        if not (handed / "grafana" / "password").exists():
            _put(handed / "grafana" / "password", secrets.token_urlsafe(32), READABLE)
    except (Misconfigured, OSError) as error:
        print(f"secrets: {error}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    print("secrets are in place")
    return 0


def _hold_exactly(folder: Path, texts: Mapping[str, str]) -> None:
    """What a reader no longer reads is taken away, and what was renewed is renewed."""
    for path in folder.iterdir():
        if path.is_file() and path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        _put(folder / name, text, OWNERS_ONLY)


def _put(path: Path, text: str, mode: int) -> None:
    """Whole or not at all: readers may run already."""
    if path.exists() and path.read_text().strip() == text:
        return
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNERS_ONLY), "w") as file:
        file.write(text)
    scratch.chmod(mode)
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
