"""The analyst may read Hydra's database, within limits, and can reach nothing else by any of ClickHouse's doors."""

from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse

SECRET = "only-for-the-machine"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    limits = {"analyst_time_max_s": "1", "analyst_result_rows_max": "3000", "analyst_rows_read_max": "50000000"}
    with running_clickhouse(tmp_path_factory.mktemp("analyst"), **limits) as server:
        setup = [
            "CREATE TABLE hydra.mine (a UInt64) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO hydra.mine SELECT number FROM numbers(5000)",
            "CREATE DATABASE elsewhere",
            "CREATE TABLE elsewhere.secret (a String) ENGINE = MergeTree ORDER BY a",
            f"INSERT INTO elsewhere.secret VALUES ('{SECRET}')",
        ]
        (server.home / "secret.txt").write_text(SECRET)
        with httpx.Client(base_url=server.url, auth=("hydra", server.admin_password), timeout=60) as admin:
            for statement in setup:
                admin.post("/", content=statement).raise_for_status()
            yield server
            assert admin.post("/", content="SELECT count() FROM hydra.mine").text == "5000\n"


@pytest.fixture
def analyst(server: ClickHouseProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, auth=("analyst", server.analyst_password), timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(), max(a), quantileExact(0.5)(a), countIf(a > 1), uniqExactIf(a, a < 9) FROM mine",
        "SELECT toStartOfHour(now(), 'Asia/Shanghai'), formatDateTime(now(), '%Y-%m'), dateDiff('day', now(), now())",
        "WITH x AS (SELECT a FROM hydra.mine) SELECT x.a, CASE WHEN a > 1 THEN 'b' ELSE 'c' END FROM x LIMIT 3",
        "SELECT a, row_number() OVER (ORDER BY a), lagInFrame(a) OVER (ORDER BY a) FROM mine LIMIT 5",
        "SELECT arrayMap(x -> x + 1, groupArray(a)), toDecimal128('1.5', 12), [1, 2][1], (1, 2).1 FROM mine",
        "SELECT m.a FROM mine AS m INNER JOIN (SELECT a FROM mine) AS n ON n.a = m.a WHERE m.a IN (SELECT 1) LIMIT 2",
        "SELECT name, type, comment FROM system.columns WHERE database = 'hydra'",
        "SELECT * FROM information_schema.tables LIMIT 1",
        "SHOW TABLES",
        "DESCRIBE mine",
        "SHOW CREATE TABLE mine",
        "EXPLAIN SELECT * FROM mine",
        "EXISTS mine",
        "SELECT number FROM numbers(10) UNION ALL SELECT a FROM mine LIMIT 5",
        "SELECT 1 FORMAT JSON",
        "SELECT * EXCEPT (a), m.* REPLACE (1 AS a) FROM mine AS m LIMIT 1",
        "SELECT a, sum(a) OVER w FROM mine WINDOW w AS (ORDER BY a) LIMIT 1",
        "SELECT n, x FROM (SELECT 1 AS n, [1, 2] AS l) ARRAY JOIN l AS x",
        "SELECT (SELECT 1), exists(SELECT 1), arrayMap((x, y) -> x * y, [1], [2]), 'FORMAT JSON' AS `a b`",
        "SELECT a FROM mine ORDER BY a LIMIT 1 BY a LIMIT 1 OFFSET 1 -- FORMAT JSON",
        "SELECT toDate(0) AS d, count() GROUP BY d WITH TOTALS ORDER BY d WITH FILL STEP INTERVAL 1 DAY",
        "SELECT 1 INTERSECT SELECT 1",
        "SELECT a FROM mine QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SHOW COLUMNS FROM mine",
        "SHOW TABLES LIKE 'm%'",
    ],
)
def test_questions_are_answered(analyst: httpx.Client, sql: str) -> None:
    assert analyst.post("/", content=sql).status_code == 200, analyst.post("/", content=sql).text


def doors(secret_file: str) -> list[str]:
    return [
        # Files of the machine.
        f"SELECT * FROM file('{secret_file}', 'LineAsString')",
        f"SELECT file('{secret_file}')",
        f"SELECT FILE('{secret_file}')",
        f"SELECT * FROM `default`.`{secret_file}`",
        f"SELECT * FROM `{secret_file}`",
        f"SELECT * FROM '{secret_file}'",
        f"DESCRIBE file('{secret_file}', 'LineAsString')",
        f"EXPLAIN SELECT * FROM file('{secret_file}', 'LineAsString')",
        f"SELECT 1 WHERE 'x' IN file('{secret_file}', 'LineAsString')",
        f"WITH x AS (SELECT * FROM file('{secret_file}', 'LineAsString')) SELECT * FROM x",
        f"SELECT * FROM view(SELECT * FROM file('{secret_file}', 'LineAsString'))",
        f"SELECT * FROM eval('SELECT * FROM file(''{secret_file}'', ''LineAsString'')')",
        f"SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM file('{secret_file}', 'LineAsString')))",
        f"SELECT * FROM filesystem('{secret_file}')",
        f"SELECT * FROM fileCluster('c', '{secret_file}')",
        f"SELECT * FROM sqlite('{secret_file}', 't')",
        f"SELECT * FROM {{f:Identifier}}.`{secret_file}`",
        f"SELECT * FROM icebergLocal('{secret_file}')",
        f"SELECT * FROM deltaLakeLocal('{secret_file}')",
        # The same function in disguise.
        f"SELECT * FROM `file`('{secret_file}', 'LineAsString')",
        f"SELECT * FROM \"FILE\" /* a table */ ('{secret_file}', 'LineAsString')",
        f"SELECT * FROM hydra.file('{secret_file}', 'LineAsString')",
        f"SELECT * FROM {{g:Identifier}}('{secret_file}', 'LineAsString')",
        f"SELECT * FROM mine AS m, `fi\\x6ce`('{secret_file}', 'LineAsString') AS f",
        f"SELECT * FROM values('a String', (file('{secret_file}')))",
        f"SELECT * FROM numbers(length(file('{secret_file}')))",
        f"SELECT * FROM loop(file('{secret_file}', 'LineAsString')) LIMIT 1",
        # A function that is named, not called.
        f"SELECT * APPLY(file) FROM (SELECT '{secret_file}')",
        f"SELECT * APPLY file FROM (SELECT '{secret_file}')",
        f"SELECT * APPLY(x -> file(x)) FROM (SELECT '{secret_file}')",
        f"SELECT COLUMNS('a') APPLY file FROM (SELECT '{secret_file}' AS a)",
        f"SELECT arrayMap(file, ['{secret_file}'])",
        f"SELECT arrayMap(`file`, ['{secret_file}'])",
        f"SELECT arrayMap('file', ['{secret_file}'])",
        f"WITH file AS f SELECT arrayMap(f, ['{secret_file}'])",
        f"SELECT arrayMap({{g:Identifier}}, ['{secret_file}'])",
        f"SELECT arrayFilter(x -> file(x) != '', ['{secret_file}'])",
        f"SELECT mapApply(file, map('a', '{secret_file}'))",
        f"SELECT * REPLACE(file('{secret_file}') AS a) FROM (SELECT 1 AS a)",
        f"SELECT CAST(file('{secret_file}'), 'String')",
        f"SELECT sum(1) FILTER (WHERE file('{secret_file}') != '')",
        f"SELECT 1 AS a ORDER BY a WITH FILL INTERPOLATE (a AS file('{secret_file}'))",
        f"SELECT 1 AS `x (children 1)`, file('{secret_file}')",
        f"SELECT 1 AS `a\n Literal 1`, file('{secret_file}')",
        f"SELECT file('{secret_file}') FORMAT RawBLOB",
        f"SELECT file('{secret_file}') FORMAT RawBLOB SETTINGS limit = 1 FORMAT RawBLOB",
        f"SELECT file('{secret_file}') FORMAT RawBLOB SETTINGS limit = 1",
        # The files again, to be written.
        f"SELECT 1 INTO OUTFILE '{secret_file}.out'",
        f"SELECT 1 INTO OUTFILE '{secret_file}.out' FORMAT CSV",
        f"SELECT 1 FORMAT CSV INTO OUTFILE '{secret_file}.out'",
        f"SELECT 1 FORMAT Null; SELECT * FROM file('{secret_file}', 'LineAsString')",
        f"INSERT INTO FUNCTION file('{secret_file}.out', 'CSV') SELECT 1",
        "SELECT * FROM executable('cat', 'LineAsString', 'x String')",
        "SELECT * FROM python(sys)",
        "SELECT catboostEvaluate('/x', 1)",
        "SELECT regionToName(1::UInt32)",
        # Other hosts.
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM s3('http://127.0.0.1:1/x', 'CSV')",
        "SELECT * FROM remote('127.0.0.1', 'elsewhere', 'secret')",
        "SELECT * FROM cluster('c', 'elsewhere', 'secret')",
        "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
        "SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')",
        "SELECT * FROM mongodb('127.0.0.1:1', 'd', 't', 'u', 'p', 'x String')",
        "SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'CSV')",
        "SELECT hasColumnInTable('127.0.0.1:1', 'd', 't', 'c')",
        "SELECT aiGenerate('x')",
        # Other databases and what the system knows.
        "SELECT * FROM elsewhere.secret",
        "SELECT 'x' IN elsewhere.secret",
        "SHOW CREATE TABLE elsewhere.secret",
        "EXISTS elsewhere.secret",
        "DESCRIBE elsewhere.secret",
        "SELECT * FROM {f:Identifier}.secret",
        "SELECT * FROM merge('elsewhere', '.*')",
        "SELECT * FROM loop(elsewhere.secret)",
        "SELECT * FROM mergeTreeIndex('elsewhere', 'secret')",
        "SELECT joinGet('elsewhere.secret', 'a', 1)",
        "SELECT dictGet('elsewhere.secret', 'a', 1)",
        "SELECT * FROM dictionary('elsewhere.secret')",
        "SELECT * FROM system.processes",
        "SELECT * FROM system.query_log",
        "SELECT * FROM system.users",
        "SELECT * FROM SYSTEM.users",
        "SELECT * FROM `system`.`named_collections`",
        "SELECT * FROM mine WHERE a IN (SELECT 1 FROM system.server_settings)",
        "EXPLAIN AST SELECT * FROM elsewhere.secret",
        "SELECT getServerSetting('path')",
        "SELECT hostName(), getMacro('x')",
        "SHOW PROCESSLIST",
        "SHOW GRANTS",
        "CHECK TABLE mine",
        # Changes, control, and the limits themselves.
        "INSERT INTO mine VALUES (1)",
        "INSERT INTO mine SELECT 1",
        "CREATE TABLE t (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE t (a UInt8)",
        "CREATE FUNCTION f AS (x) -> x",
        "DROP TABLE mine",
        "TRUNCATE TABLE mine",
        "DELETE FROM mine WHERE 1",
        "ALTER TABLE mine DELETE WHERE 1",
        "OPTIMIZE TABLE mine FINAL",
        "SYSTEM SHUTDOWN",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE 1",
        "BACKUP TABLE mine TO File('/tmp/b')",
        "USE elsewhere",
        "SET readonly = 0",
        "SET max_execution_time = 0",
        "SELECT 1; SELECT 2",
        "SELECT * FROM mine SETTINGS max_result_rows = 0",
        "SELECT * FROM mine LIMIT 1 SETTINGS readonly = 0",
        "SELECT * FROM mine LIMIT 1 FORMAT CSV SETTINGS max_execution_time = 0",
        "SELECT sleep(3)",
        "SELECT sleepEachRow(1) FROM mine",
        "EXECUTE AS hydra SELECT 1",
        "GRANT ALL ON *.* TO analyst",
        "",
        "garbage",
    ]


def test_every_other_door_is_shut(server: ClickHouseProcess, analyst: httpx.Client) -> None:
    secret_file = str(server.home / "secret.txt")
    opened = []
    for sql in doors(secret_file):
        for parameters in ({"param_f": "elsewhere", "param_g": "file"}, {"param_f": "default", "param_g": "FILE"}):
            answer = analyst.post("/", params=parameters, content=sql)
            if answer.status_code == 200 or SECRET in answer.text:
                opened.append((sql, answer.status_code, answer.text[:80]))
    assert opened == []
    assert not Path(f"{secret_file}.out").exists()


def test_no_table_is_reached_by_its_uuid(server: ClickHouseProcess, analyst: httpx.Client) -> None:
    """A name that may be read, with the UUID of a table that may not: `system.tables` shows it to every reader."""
    listed = analyst.post(
        "/", content="SELECT uuid FROM system.tables WHERE database = 'elsewhere' AND name = 'secret'"
    )
    uuid = listed.text.strip()
    assert len(uuid) == 36
    for clause in (f"UUID '{uuid}'", f"uuid/**/ '{uuid}'", f"UuId -- 'x\n $a${uuid}$a$", f"UUID'{uuid}' FINAL"):
        for sql in (
            f"SELECT * FROM hydra.mine {clause}",
            f"SELECT * FROM mine AS m, mine {clause}",
            f"SELECT 1 WHERE 'x' IN (SELECT * FROM hydra.mine {clause})",
            f"WITH x AS (SELECT * FROM hydra.mine {clause}) SELECT * FROM x",
            f"DESCRIBE hydra.mine {clause}",
            f"SHOW CREATE TABLE hydra.mine {clause}",
            f"EXISTS hydra.mine {clause}",
            f"EXPLAIN SELECT * FROM hydra.mine {clause}",
        ):
            answer = analyst.post("/", content=sql)
            assert answer.status_code in (400, 403) and SECRET not in answer.text, sql
    for harmless in ("SELECT toUUID('" + uuid + "')::UUID", "SELECT 'UUID', uuid FROM system.tables LIMIT 1"):
        assert analyst.post("/", content=harmless).status_code == 200, harmless


def test_the_list_of_doors_would_notice_an_open_one(server: ClickHouseProcess) -> None:
    """The first of them is open to `hydra`, so it is the guard that shuts it, not a mistake in its text."""
    secret_file = str(server.home / "secret.txt")
    with httpx.Client(base_url=server.url, auth=("hydra", server.admin_password), timeout=60) as admin:
        answers = [admin.post("/", content=sql).text for sql in doors(secret_file)[:2]]
    assert all(SECRET in answer for answer in answers)


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"readonly": "0"}, 200),
        ({"max_result_rows": "0"}, 200),
        ({"max_execution_time": "0"}, 200),
        ({"additional_table_filters": "{}"}, 403),
        ({"allow_ddl": "1"}, 403),
        ({"format_schema": "/etc/passwd"}, 403),
        ({"database": "elsewhere"}, 200),
        ({"session_id": "shared"}, 200),
    ],
)
def test_the_url_lifts_no_limit(analyst: httpx.Client, parameters: dict[str, str], status: int) -> None:
    small = analyst.post("/", params=parameters, content="SELECT count() FROM mine")
    assert small.status_code == status
    assert analyst.post("/", params=parameters, content="SELECT a FROM mine").status_code != 200
    assert analyst.post("/", params=parameters, content="INSERT INTO mine VALUES (1)").status_code == 403


def test_time_rows_read_and_result_are_bounded(analyst: httpx.Client) -> None:
    slow = "SELECT count() FROM mine AS a, mine AS b, mine AS c WHERE NOT ignore(sipHash64(a.a, b.a, c.a))"
    assert analyst.post("/", content=slow).headers["x-clickhouse-exception-code"] == "159"
    wide = "SELECT count() FROM numbers(60000000) WHERE number % 2 = 1"
    assert analyst.post("/", content=wide).headers["x-clickhouse-exception-code"] == "158"
    long = analyst.post("/", content="SELECT a FROM mine FORMAT TSV")
    assert (long.status_code, long.headers["x-clickhouse-exception-code"]) == (500, "396")


def test_the_ordinary_client_works_for_the_analyst(server: ClickHouseProcess) -> None:
    with clickhouse_connect.get_client(
        host="127.0.0.1",
        port=server.port,
        username="analyst",
        password=server.analyst_password,
        database="hydra",
    ) as client:
        assert client.query("SELECT count() FROM mine WHERE a < {n:UInt64}", {"n": 7}).result_rows == [(7,)]
        with pytest.raises(DatabaseError, match="READONLY"):
            client.command("DROP TABLE mine")
