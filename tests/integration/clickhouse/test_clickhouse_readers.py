"""Billing and analysts of some accounts at the embedded server: what each may read, and how often."""

from collections.abc import Iterator

import httpx
import pytest

from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse

MINE, OTHERS = "u-aaaaaaaaaaaa", "u-bbbbbbbbbbbb"
OF_ALL = f"{MINE},{OTHERS}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    folder = tmp_path_factory.mktemp("readers")
    with running_clickhouse(folder, analyst_accounts=MINE, analyst_queries_per_hour_max="60") as server:
        with httpx.Client(base_url=server.url, auth=("hydra", server.admin_password), timeout=60) as admin:
            for sql in (
                "CREATE TABLE hydra.usage (account String, id UInt8) ENGINE = ReplacingMergeTree"
                " ORDER BY (account, id)",
                "CREATE TABLE hydra.parked (id String) ENGINE = MergeTree ORDER BY id",
                "CREATE VIEW hydra.v AS SELECT account, id FROM hydra.usage FINAL",
                f"INSERT INTO hydra.usage VALUES ('{MINE}', 1), ('{OTHERS}', 2)",
                "INSERT INTO hydra.parked VALUES ('x')",
                "CREATE DATABASE another",
                "CREATE TABLE another.usage (account String) ENGINE = MergeTree ORDER BY account",
                f"INSERT INTO another.usage VALUES ('{MINE}')",
            ):
                admin.post("/", content=sql).raise_for_status()
        yield server


@pytest.fixture
def analyst(server: ClickHouseProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, auth=("analyst", server.analyst_password), timeout=60) as client:
        yield client


@pytest.fixture
def billing(server: ClickHouseProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, auth=("billing", server.billing_password), timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT DISTINCT account FROM usage", MINE),
        ("SELECT count() FROM hydra.usage AS other", "1"),
        ("SELECT count() FROM usage FINAL", "1"),
        ("SELECT account FROM v", MINE),
        ("WITH x AS (SELECT * FROM usage) SELECT a.account FROM x AS a INNER JOIN usage AS b USING (id)", MINE),
        (f"SELECT ('{OTHERS}', 2) IN usage", "0"),
        ("SELECT a.account FROM usage AS a UNION DISTINCT SELECT account FROM v", MINE),
        ("SELECT max(id), min(id) FROM usage", "1\t1"),
        ("SELECT count() FROM parked", "0"),
    ],
)
def test_an_analyst_of_one_account_sees_no_row_of_another(analyst: httpx.Client, sql: str, rows: str) -> None:
    assert analyst.post("/", content=sql).text == f"{rows}\n"


@pytest.mark.parametrize(
    "parameters", [{"additional_table_filters": "{}"}, {"additional_result_filter": "1"}, {"database": "another"}]
)
def test_no_parameter_of_the_url_shows_more(analyst: httpx.Client, parameters: dict[str, str]) -> None:
    assert OTHERS not in analyst.post("/", params=parameters, content="SELECT account FROM hydra.usage").text


def test_billing_reads_the_rows_of_all_accounts_in_the_database_that_it_names(billing: httpx.Client) -> None:
    everybody = "SELECT arrayStringConcat(arraySort(groupArray(account)), ',') FROM usage"
    assert billing.post("/", content=everybody).text == f"{OF_ALL}\n"
    assert billing.post("/", params={"database": "another"}, content=everybody).text == f"{MINE}\n"
    for elsewhere in ("system", "default", "INFORMATION_SCHEMA", "a b", "hydra`"):
        answer = billing.post("/", params={"database": elsewhere}, content="SELECT 1")
        assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (404, "81")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO usage VALUES ('u-cccccccccccc', 3)",
        "ALTER TABLE usage DELETE WHERE 1",
        "DROP TABLE usage",
        "CREATE TABLE t (a UInt8) ENGINE = Memory",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM remote('127.0.0.1', 'hydra', 'usage')",
        "SELECT * FROM another.usage",
        "SELECT * FROM system.processes",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SET readonly = 0",
        "SYSTEM SHUTDOWN",
        "SELECT 1; DROP TABLE usage",
    ],
)
def test_billing_changes_nothing_and_reaches_nothing_else(billing: httpx.Client, sql: str) -> None:
    assert billing.post("/", content=sql).status_code in (400, 403)
    assert billing.post("/", content="SELECT count() FROM usage").text == "2\n"


def test_an_analysts_queries_of_an_hour_are_counted_and_billings_are_not(
    analyst: httpx.Client, billing: httpx.Client
) -> None:
    # As many as the hour allows, and again should a new one begin meanwhile.
    answers = [analyst.post("/", content="SELECT 1") for _ in range(130)]
    codes = {answer.headers.get("x-clickhouse-exception-code", "0") for answer in answers}
    assert codes == {"0", "201"}
    assert billing.post("/", content="SELECT 1").text == "1\n"
