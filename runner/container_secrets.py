"""The first step of the compose file: makes the platform's secrets, and hands two of them to servers of other users.

Each is random, made once and never overwritten. Ours are files of mode 0600 in one volume. ClickHouse and Grafana run
as users of their own, so each finds its one password in a volume that nobody else mounts.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from adapters import secret_files
from adapters.errors import EXIT_MISCONFIGURED, Misconfigured
from adapters.settings import PlatformSettings

READABLE = 0o444


def main() -> int:
    """Exit code 0 once every file is there, else 1 with one line that names the cause."""
    platform = PlatformSettings()
    handed = platform.home / "handed"
    try:
        secret_files.make_missing(platform.secrets_dir)
        _hand(
            handed / "clickhouse" / "password",
            secret_files.read(platform.secrets_dir, secret_files.CLICKHOUSE_ADMIN_PASSWORD),
        )
        _hand(handed / "grafana" / "password", secrets.token_urlsafe(32))
    except (Misconfigured, OSError) as error:
        print(f"secrets: {error}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    print("secrets are in place")
    return 0


def _hand(path: Path, text: str) -> None:
    if path.exists():
        return
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.chmod(READABLE)
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
