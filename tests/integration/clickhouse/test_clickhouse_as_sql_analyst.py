"""What the analyst may do on a server with access control, tried in ClickHouse's engine with the same access rights."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.clickhouse.reader_limits import AnalystSettings, ReaderLimits
from adapters.clickhouse.sql_users import Reader, statements_for
from adapters.clickhouse.writing import Batch, write
from tests.integration.clickhouse.conftest import charge_row, usage_row
from tests.integration.clickhouse.engine_as_analyst import write_configuration
from tests.servers.clickhouse import ROOT, running_clickhouse

MINE, OTHERS = "u-aaaaaaaaaaaa", "u-bbbbbbbbbbbb"
Ask = Callable[[ReaderLimits, Sequence[str]], list[dict[str, object]]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ClickHouse that has served two accounts and was stopped."""
    with running_clickhouse(tmp_path_factory.mktemp("as_analyst")) as server:
        asyncio.run(fill(ClickHouseAddress(server.url, ADMIN, server.admin_password)))
        server.stop()
        return server.home / "clickhouse"


async def fill(address: ClickHouseAddress) -> None:
    clickhouse = ClickHouse(address)
    await migrate(clickhouse, "Asia/Shanghai")
    for account in (MINE, OTHERS):
        ids = [f"cmp-{account[-1] * 31}{number}" for number in range(3)]
        await write(
            clickhouse,
            Batch(
                usage=[usage_row(id, account=account) for id in ids],
                charges=[charge_row(f"{id}/input", id, account=account) for id in ids],
            ),
        )
    for sql in ("CREATE DATABASE elsewhere", "CREATE TABLE elsewhere.secret (a UInt8) ENGINE = MergeTree ORDER BY a"):
        await clickhouse.command(sql)
    await clickhouse.close()


@pytest.fixture
def ask(tables: Path) -> Ask:
    """Runs statements as the analyst of these limits; each answer has `rows` and `error`."""

    def asked(limits: ReaderLimits, sql: Sequence[str]) -> list[dict[str, object]]:
        write_configuration(tables, statements_for(Reader(limits, "x"), "hydra"))
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.clickhouse.engine_as_analyst", str(tables)],
            input="\n".join(sql),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asked


def views() -> list[str]:
    texts = [file.read_text() for file in (ROOT / "adapters/clickhouse/views").glob("*.sql")]
    lines = [line for text in texts for line in text.splitlines()]
    return [line.split()[-1] for line in lines if line.startswith("CREATE OR REPLACE VIEW ")]


def test_every_view_answers_by_the_one_grant(ask: Ask) -> None:
    questions = [f"SELECT count() FROM hydra.{view}" for view in views()]
    assert len(questions) > 8
    answers = ask(AnalystSettings().limits(), questions)
    assert [(answer["sql"], answer["error"]) for answer in answers if answer["error"]] == []
    counts = {answer["sql"]: answer["rows"] for answer in answers}
    assert counts["SELECT count() FROM hydra.v_usage"] == ["6"]
    assert counts["SELECT count() FROM hydra.v_charges"] == ["6"]


def test_nothing_else_can_be_read_changed_or_lifted(ask: Ask) -> None:
    refused = [
        "SELECT * FROM elsewhere.secret",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM remote('127.0.0.1', 'hydra', 'usage')",
        "INSERT INTO hydra.usage (id) VALUES ('x')",
        "CREATE TABLE hydra.t (a UInt8) ENGINE = Memory",
        "DROP TABLE hydra.usage",
        "ALTER TABLE hydra.usage DELETE WHERE 1",
        "SYSTEM FLUSH LOGS",
        "CREATE FUNCTION f AS (x) -> x",
        "SET readonly = 0",
        "SELECT 1 SETTINGS max_rows_to_read = 0",
        "CREATE USER mine",
        "GRANT ALL ON *.* TO default",
        "CREATE ROW POLICY OR REPLACE hydra_analyst ON hydra.usage USING 1 TO default",
    ]
    answers = ask(AnalystSettings().limits(), refused)
    assert [answer["sql"] for answer in answers if not answer["error"]] == []
    reasons = ("ACCESS_DENIED", "READONLY", "Cannot modify")
    assert [answer for answer in answers if not any(word in str(answer["error"]) for word in reasons)] == []


def test_row_policies_hold_in_tables_and_in_views(ask: Ask) -> None:
    limits = AnalystSettings(accounts=MINE).limits()
    sources = ("usage", "usage FINAL", "charges", "v_usage", "v_charges", "v_spend_daily", "v_bill_lines")
    answers = ask(limits, [f"SELECT groupUniqArray(account) FROM hydra.{source}" for source in sources])
    assert [answer["rows"] for answer in answers] == [[f"['{MINE}']"]] * len(sources)


@pytest.mark.parametrize(
    ("limits", "sql", "code"),
    [
        (AnalystSettings(result_rows_max=5), "SELECT * FROM hydra.v_usage", "396"),
        (AnalystSettings(rows_read_max=5), "SELECT count() FROM hydra.v_usage WHERE prompt_tokens > 1", "158"),
        (AnalystSettings(memory_bytes_max=16 << 20), "SELECT groupArray(number) FROM numbers(9000000)", "241"),
        (AnalystSettings(time_max_s=1), "SELECT max(sipHash64(number)) FROM numbers(100000000000)", "15[89]"),
    ],
    ids=["result", "read", "memory", "time"],
)
def test_each_limit_holds(ask: Ask, limits: AnalystSettings, sql: str, code: str) -> None:
    (answer,) = ask(limits.limits(), [sql])
    assert answer["rows"] == []
    assert f"Code: {code.replace('[89]', '')}" in str(answer["error"])
