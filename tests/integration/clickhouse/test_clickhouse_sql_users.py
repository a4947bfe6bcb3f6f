"""The step that makes the readers SQL users: what it asks, what it says, and that its statements are ClickHouse's."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from adapters.clickhouse.client import ADMIN, BILLING, ClickHouseAddress
from adapters.clickhouse.found_access import FoundAccess, found_access, keep
from adapters.clickhouse.reader_limits import BILLING_LIMITS, AnalystSettings, ReaderLimits
from adapters.clickhouse.sql_users import Reader, make_sql_users, statements_for
from adapters.errors import Misconfigured, Unavailable
from tests.servers.clickhouse import ROOT, ClickHouseProcess
from tests.servers.clickhouse_with_users import ServerWithUsers, server_with_users

ON_A_SERVER = FoundAccess(analyst="analyst: SQL user on the server", billing_user="billing")
SOME = AnalystSettings(accounts="u-aaaaaaaaaaaa, public").limits()


def readers(engine: ClickHouseProcess) -> tuple[Reader, Reader]:
    return Reader(AnalystSettings().limits(), engine.analyst_password), Reader(BILLING_LIMITS, engine.billing_password)


@pytest.fixture
def server(clickhouse_server: ClickHouseProcess) -> Iterator[ServerWithUsers]:
    with server_with_users(clickhouse_server) as door:
        yield door


def address(url: str, engine: ClickHouseProcess) -> ClickHouseAddress:
    return ClickHouseAddress(url, ADMIN, engine.admin_password)


@pytest.mark.parametrize("limits", [AnalystSettings().limits(), SOME, BILLING_LIMITS], ids=["all", "some", "billing"])
def test_clickhouse_parses_every_statement(clickhouse_server: ClickHouseProcess, limits: ReaderLimits) -> None:
    auth = (ADMIN, clickhouse_server.admin_password)
    for statement in statements_for(Reader(limits, "the-password"), "hydra"):
        answer = httpx.post(clickhouse_server.url, content=f"EXPLAIN AST {statement}", auth=auth, timeout=60)
        assert answer.status_code == 200, (statement, answer.text)
        assert "the-password" not in statement


async def test_the_users_are_made_with_limits_before_they_may_read(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    found = await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)
    assert found == ON_A_SERVER
    of_analyst = [one for one in server.made if "`analyst`" in one or "hydra_analyst" in one]
    kinds = [" ".join(one.split()[:3]) for one in of_analyst]
    assert kinds[:3] == ["CREATE SETTINGS PROFILE", "CREATE USER OR", "CREATE QUOTA OR"]
    assert kinds[-1] == "GRANT SELECT ON" and len(set(kinds[3:-1])) == 1
    assert "readonly = 1," in of_analyst[0] and "max_rows_to_read = 500000000," in of_analyst[0]
    assert hashlib.sha256(clickhouse_server.analyst_password.encode()).hexdigest() in of_analyst[1]
    assert not [one for one in server.made if clickhouse_server.analyst_password in one]
    # Each reader's grant comes last of its own, and there is no other grant than to read.
    assert [one for one in server.made if one.startswith("GRANT")] == [
        "GRANT SELECT ON `hydra`.* TO `analyst`",
        "GRANT SELECT ON `hydra`.* TO `billing`",
    ]


async def test_it_can_be_run_again_and_does_the_same(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    for _ in range(2):
        await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)
    half = len(server.made) // 2
    assert server.made[:half] == server.made[half:]
    assert all("OR REPLACE" in one or one.startswith("GRANT") for one in server.made)


async def test_a_server_that_has_just_started_is_asked_again(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    where, who = address(server.url, clickhouse_server), readers(clickhouse_server)
    server.failures_left = 3
    assert await make_sql_users(where, *who, attempts_max=9, pause_s=0.01) == ON_A_SERVER
    server.failures_left = 10_000
    with pytest.raises(Unavailable):
        await make_sql_users(where, *who, attempts_max=2, pause_s=0.01)


async def test_a_new_server_has_the_database_afterwards(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    """The warehouse's migrations may not have run yet."""
    new = replace(address(server.url, clickhouse_server), database="not_there_yet")
    assert await make_sql_users(new, *readers(clickhouse_server), attempts_max=1) == ON_A_SERVER


@pytest.mark.parametrize(
    ("stores", "refusals", "said"),
    [
        (0, {}, "keeps no users made by SQL"),
        (None, {}, "older than SQL access control"),
        (1, {"CREATE SETTINGS PROFILE": 497}, "the user hydra may not make users: GRANT ACCESS MANAGEMENT"),
        (1, {"GRANT": 497}, "the user hydra may not make users"),
        (1, {"CREATE USER": 514}, "keeps no users made by SQL"),
        (1, {"CREATE USER": 495}, "keeps no users made by SQL"),
    ],
)
async def test_a_server_on_which_none_can_be_made_is_told_by_its_reason(
    server: ServerWithUsers,
    clickhouse_server: ClickHouseProcess,
    stores: int | None,
    refusals: dict[str, int],
    said: str,
) -> None:
    server.user_stores, server.refusals, server.forgotten = stores, refusals, {"analyst"}
    found = await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)
    assert found.analyst.startswith("no analyst: ") and said in found.analyst
    # It is there, whoever has made it.
    assert found.billing_user == BILLING
    assert found.analyst_user == ("analyst" if 497 in refusals.values() else "hydra")


@pytest.mark.parametrize("stores", [0, None])
async def test_without_access_control_and_without_its_user_billing_reads_as_the_owner(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess, stores: int | None
) -> None:
    server.user_stores, server.forgotten = stores, {"analyst", "billing"}
    found = await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)
    assert found.billing_user == found.analyst_user == ADMIN
    assert found.analyst.endswith("; billing reads as hydra, each question read-only and within billing's limits")


async def test_where_somebody_may_make_users_billing_never_reads_as_the_owner(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    server.refusals, server.forgotten = {"CREATE USER": 497}, {"analyst", "billing"}
    found = await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)
    assert found.billing_user == BILLING and "billing reads as" not in found.analyst


async def test_another_error_of_the_server_is_not_taken_for_an_answer(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    server.refusals = {"CREATE USER": 241}
    with pytest.raises(Unavailable):
        await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)


async def test_limits_other_than_set_are_named(clickhouse_server: ClickHouseProcess) -> None:
    analyst, billing = readers(clickhouse_server)
    stricter = Reader(replace(analyst.limits, result_rows_max=7), analyst.password)
    found = await make_sql_users(address(clickhouse_server.url, clickhouse_server), stricter, billing, attempts_max=1)
    assert found.analyst.endswith("; other than set: max_result_rows")


async def test_an_analyst_who_may_write_is_refused(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess
) -> None:
    server.analyst_writes = True
    for stores in (0, 1):  # made by hand, or made by us on a server whose profiles do not hold
        server.user_stores = stores
        with pytest.raises(Misconfigured, match="analyst is not read-only"):
            await make_sql_users(address(server.url, clickhouse_server), *readers(clickhouse_server), attempts_max=1)


def test_the_step_says_in_its_last_line_that_the_embedded_server_holds_the_limits(
    clickhouse_server: ClickHouseProcess,
) -> None:
    done = run_step(clickhouse_server)
    assert done.returncode == 0
    word = "analyst: limits by the embedded server"
    assert f'"message":"{word}"' in done.stderr.splitlines()[-1]
    assert found_access(clickhouse_server.home) == FoundAccess(analyst=word, billing_user="billing")


def test_a_wrong_account_is_one_line_that_names_the_setting(clickhouse_server: ClickHouseProcess) -> None:
    done = run_step(clickhouse_server, HYDRA_CLICKHOUSE_ANALYST_ACCOUNTS="u-1' OR 1 --")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "HYDRA_CLICKHOUSE_ANALYST_ACCOUNTS is wrong" in line


def test_the_statements_can_be_printed_to_be_run_by_hand(clickhouse_server: ClickHouseProcess) -> None:
    printed = run_step(clickhouse_server, "--print").stdout.split(";\n")
    analyst, billing = readers(clickhouse_server)
    assert [one for one in printed if one] == [*statements_for(analyst, "hydra"), *statements_for(billing, "hydra")]


def run_step(engine: ClickHouseProcess, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
    environment |= {"HYDRA_HOME": str(engine.home), "HYDRA_CLICKHOUSE_URL": engine.url, **settings}
    command = [sys.executable, "-m", "runner.create_analyst", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def hydra_sql(home: Path, url: str, query: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
    environment |= {"HYDRA_HOME": str(home), "HYDRA_CLICKHOUSE_URL": url, "HYDRA_CLICKHOUSE_DATABASE": "default"}
    command = [sys.executable, "-m", "cli", "sql", "--format", "TSV", query]
    return subprocess.run(
        command, cwd=ROOT, env=environment | settings, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_access_control_the_command_asks_as_the_owner_within_the_analysts_limits(
    server: ServerWithUsers, clickhouse_server: ClickHouseProcess, tmp_path: Path
) -> None:
    (tmp_path / "secrets").symlink_to(clickhouse_server.secrets_dir)
    keep(tmp_path, FoundAccess(analyst="no analyst", billing_user="hydra", analyst_user="hydra"), "p")
    server.forgotten = {"analyst"}
    said = hydra_sql(tmp_path, server.url, "SELECT 6 * 7")
    assert (said.returncode, said.stdout) == (0, "42\n"), said
    ((user, told),) = server.asked
    limits = {name: str(value) for name, value in AnalystSettings().limits().engine_settings().items()}
    assert user == ADMIN and told["readonly"] == "1" and limits.items() <= told.items()
    said = hydra_sql(tmp_path, server.url, "CREATE TABLE written_by_hand (a UInt8) ENGINE = Memory")
    assert said.returncode == 1 and "READONLY" in said.stderr
    said = hydra_sql(tmp_path, server.url, "SELECT 1", HYDRA_CLICKHOUSE_ANALYST_ACCOUNTS="public")
    assert said.returncode == 1 and "cannot hold to it" in said.stderr
