"""ClickHouse's engine opened on a folder of tables with a configuration in which its only user is the analyst.

The embedded engine takes users from its configuration alone, never by SQL. So what the statements would give the
analyst on a server is written there: the same profile, grant and row policies, taken from the statements themselves.
(The quota is not: the embedded engine counts none.)
`python -m tests.integration.clickhouse.engine_as_analyst FOLDER` then runs one statement a line of its input and prints
one line of JSON for each.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

_SETTING = re.compile(r"(\w+) = ('[^']*'|\d+)")
_POLICY = re.compile(
    r"CREATE ROW POLICY OR REPLACE hydra_analyst ON `(\w+)`\.`(\w+)` FOR SELECT USING (.*) TO `analyst`"
)


def write_configuration(folder: Path, statements: Sequence[str]) -> None:
    """`config.xml` and `users.xml` beside the tables, from the statements for a server."""
    profile = next(one for one in statements if one.startswith("CREATE SETTINGS PROFILE"))
    settings = _SETTING.findall(profile.partition(" SETTINGS ")[2])
    grants = [one.removesuffix(" TO `analyst`") for one in statements if one.startswith("GRANT")]
    policies = [found.groups() for one in statements if (found := _POLICY.fullmatch(one))]
    by_database: dict[str, list[str]] = {}
    for database, table, condition in policies:
        by_database.setdefault(database, []).append(f"<{table}><filter>{escape(condition)}</filter></{table}>")
    databases = "".join(f"<{name}>{''.join(filters)}</{name}>" for name, filters in by_database.items())
    values = "".join(f"<{name}>{value.strip(chr(39))}</{name}>" for name, value in settings)
    (folder / "users.xml").write_text(
        f"""<clickhouse>
    <profiles><default>{values}</default></profiles>
    <quotas><default><interval><duration>3600</duration></interval></default></quotas>
    <users><default>
        <password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
        <grants>{"".join(f"<query>{escape(grant)}</query>" for grant in grants)}</grants>
        <databases>{databases}</databases>
    </default></users>
</clickhouse>
"""
    )
    users = escape(str(folder / "users.xml"))
    (folder / "config.xml").write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>\n")


def main(folder: Path) -> None:
    """Answers every line; the engine's refusal is an answer too."""
    import chdb

    connection = chdb.connect(f"{folder / 'data'}?config-file={folder / 'config.xml'}")
    for line in sys.stdin:
        try:
            text, error = (connection.query(line.strip(), "TSV").bytes() or b"").decode(), ""
        except RuntimeError as refused:
            text, error = "", str(refused)
        print(json.dumps({"sql": line.strip(), "rows": text.splitlines(), "error": error}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
