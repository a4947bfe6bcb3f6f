"""The embedded ClickHouse as its clients see it: clickhouse-connect unchanged, and plain HTTP."""

import gzip
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import httpx
import lz4.frame
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse

ROWS = 100_000


@pytest.fixture
def http(clickhouse_server: ClickHouseProcess) -> Iterator[httpx.Client]:
    """As `hydra`, without a client library's help."""
    login = ("hydra", clickhouse_server.admin_password)
    with httpx.Client(base_url=clickhouse_server.url, auth=login, timeout=60) as client:
        yield client


@pytest.fixture
def database(http: httpx.Client) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    http.post("/", content=f"CREATE DATABASE {name}").raise_for_status()
    yield name
    http.post("/", content=f"DROP DATABASE {name}").raise_for_status()


@pytest.fixture
def client(clickhouse_server: ClickHouseProcess, database: str) -> Iterator[Client]:
    with clickhouse_connect.get_client(
        host="127.0.0.1",
        port=clickhouse_server.port,
        username="hydra",
        password=clickhouse_server.admin_password,
        database=database,
    ) as client:
        yield client


@pytest.fixture
async def async_client(clickhouse_server: ClickHouseProcess, database: str) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1",
        port=clickhouse_server.port,
        username="hydra",
        password=clickhouse_server.admin_password,
        database=database,
    )
    yield client
    await client.close()


def test_ping_health_and_metrics_need_no_login(clickhouse_server: ClickHouseProcess) -> None:
    with httpx.Client(base_url=clickhouse_server.url) as stranger:
        assert stranger.get("/ping").text == "Ok.\n"
        assert stranger.get("/health/live").json()["status"] == "live"
        assert stranger.get("/health/ready").json()["status"] == "ready"
        assert "hydra_clickhouse_queries_total" in stranger.get("/metrics").text
        assert stranger.get("/other").status_code == 404


@pytest.mark.parametrize("login", [None, ("default", ""), ("hydra", ""), ("hydra", "wrong"), ("analyst", "wrong")])
def test_nobody_asks_without_a_password(clickhouse_server: ClickHouseProcess, login: tuple[str, str] | None) -> None:
    with httpx.Client(base_url=clickhouse_server.url, auth=login) as stranger:
        answer = stranger.post("/", content="SELECT 1")
    assert answer.status_code == 403
    assert answer.headers["x-clickhouse-exception-code"] == "516"


def test_every_row_of_a_large_insert_lands(client: Client) -> None:
    """The client sends many compressed frames; reading only the first lost two rows of three under a status of 200."""
    client.command("CREATE TABLE big (a UInt64, b String, c Decimal(38, 12)) ENGINE = MergeTree ORDER BY a")
    data = [(number, f"row {number}", Decimal("0.000000000001")) for number in range(ROWS)]
    summary = client.insert("big", data, column_names=["a", "b", "c"])
    assert summary.written_rows == ROWS
    rows = client.query("SELECT count(), sum(a), sum(c) FROM big").result_rows
    assert rows == [(ROWS, sum(range(ROWS)), Decimal("0.000000100000"))]
    assert len(client.query("SELECT * FROM big").result_rows) == ROWS


async def test_the_async_client_works_too(async_client: AsyncClient) -> None:
    await async_client.command(
        "CREATE TABLE t (a DateTime64(6, 'UTC'), b Nullable(String)) ENGINE = MergeTree ORDER BY a"
    )
    instant = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)
    await async_client.insert("t", [(instant, None), (instant, "x")], column_names=["a", "b"])
    result = await async_client.query("SELECT b FROM t WHERE a = {a:DateTime64(6, 'UTC')} ORDER BY b", {"a": instant})
    assert result.result_rows == [("x",), (None,)]


def test_parameters_arrive_as_they_were_sent(client: Client) -> None:
    odd = "it's \\ a\ttab, a\nline, \\t, {x:String}; é 漢"
    names = [f"a rather long name, number {number}" for number in range(5_000)]
    sql = "SELECT {odd:String}, length({names:Array(String)}), {names:Array(String)}[5000]"
    assert client.query(sql, parameters={"odd": odd, "names": names}).result_rows == [(odd, 5_000, names[-1])]


def test_a_session_keeps_its_settings_and_temporary_tables(http: httpx.Client) -> None:
    session = {"session_id": uuid.uuid4().hex}
    http.post("/", params=session, content="CREATE TEMPORARY TABLE mine (a UInt8)").raise_for_status()
    http.post("/", params=session, content="INSERT INTO mine VALUES (7)").raise_for_status()
    assert http.post("/", params=session, content="SELECT a FROM mine").text == "7\n"
    assert http.post("/", content="SELECT a FROM mine").status_code == 404


def test_a_get_changes_nothing(http: httpx.Client, database: str) -> None:
    answer = http.get("/", params={"query": f"CREATE TABLE {database}.t (a UInt8) ENGINE = Memory"})
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (403, "164")
    assert http.get("/", params={"query": "SELECT 1"}).text == "1\n"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [("SELEC 1", 400, "62"), ("SELECT * FROM nowhere.t", 404, "81"), ("SELECT nothing", 404, "47")],
)
def test_errors_carry_clickhouses_code_and_a_status(http: httpx.Client, sql: str, status: int, code: str) -> None:
    answer = http.post("/", content=sql)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_formats_and_packed_bodies(http: httpx.Client, database: str) -> None:
    http.post("/", content=f"CREATE TABLE {database}.t (a UInt8, b String) ENGINE = Memory").raise_for_status()
    into = {"query": f"INSERT INTO {database}.t FORMAT CSV"}
    for encoding, body in (("gzip", gzip.compress(b"1,x\n")), ("lz4", lz4.frame.compress(b"2,y\n"))):
        answer = http.post("/", params=into, content=body, headers={"content-encoding": encoding})
        assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "1"
    cut = lz4.frame.compress(b"3,z\n" * 100)[:-8]
    assert http.post("/", params=into, content=cut, headers={"content-encoding": "lz4"}).status_code == 400
    answer = http.post("/", content=f"SELECT * FROM {database}.t ORDER BY a FORMAT JSON")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["data"] == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert http.post("/", content=f"SELECT * FROM {database}.t ORDER BY a FORMAT CSVWithNames").text.splitlines() == [
        '"a","b"',
        '1,"x"',
        '2,"y"',
    ]


def test_half_an_answer_is_never_taken_for_the_whole(client: Client, http: httpx.Client) -> None:
    sql = "SELECT throwIf(number = 3000000, 'broken on purpose') FROM numbers(4000000)"
    with pytest.raises(DatabaseError, match="broken on purpose"):
        _ = client.query(sql).result_rows
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/", content=f"{sql} FORMAT TSV")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server whose bounds can be met in a test."""
    settings = {
        "body_bytes_max": "2000",
        "statement_bytes_max": "1500",
        "concurrent_queries_max": "1",
        "queue_wait_s": "0.3",
        "sessions_max": "2",
        "query_time_max_s": "2",
        "buffered_answer_bytes_max": "100000",
    }
    with running_clickhouse(tmp_path_factory.mktemp("narrow"), **settings) as server:
        with httpx.Client(base_url=server.url, auth=("hydra", server.admin_password), timeout=60) as client:
            yield client


def test_bodies_and_statements_are_bounded(narrow: httpx.Client) -> None:
    assert narrow.post("/", content=b" " * 2_001).status_code == 413
    bomb = gzip.compress(b" " * 1_000_000)
    assert narrow.post("/", content=bomb, headers={"content-encoding": "gzip"}).status_code == 413
    assert narrow.post("/", content="SELECT 1 --" + "x" * 1_600).status_code == 400
    assert narrow.post("/", content="SELECT 1").text == "1\n"


def test_answers_that_are_made_whole_are_bounded(narrow: httpx.Client) -> None:
    answer = narrow.post("/", content="SELECT number FROM numbers(1000000) FORMAT JSON")
    assert answer.headers["x-clickhouse-exception-code"] == "396"


def test_a_query_ends_at_its_time(narrow: httpx.Client) -> None:
    answer = narrow.post("/", content="SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (408, "159")


def test_one_query_too_many_is_told_so_and_a_client_that_leaves_gives_its_place_back(narrow: httpx.Client) -> None:
    with narrow.stream("POST", "/", content="SELECT number FROM numbers(100000000) FORMAT TSV") as answer:
        assert answer.status_code == 200
        refused = narrow.post("/", content="SELECT 1")
        assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (503, "202")
        assert narrow.get("/health/ready").status_code == 200
    for _ in range(100):
        if (again := narrow.post("/", content="SELECT 1")).status_code == 200:
            break
    assert again.text == "1\n"


def test_the_longest_idle_session_makes_room(narrow: httpx.Client) -> None:
    for name in ("one", "two", "three"):
        narrow.post(
            "/", params={"session_id": name}, content=f"CREATE TEMPORARY TABLE of_{name} (a UInt8)"
        ).raise_for_status()
    assert narrow.post("/", params={"session_id": "three"}, content="SELECT count() FROM of_three").text == "0\n"
    assert narrow.post("/", params={"session_id": "two"}, content="SELECT count() FROM of_two").text == "0\n"
    assert narrow.post("/", params={"session_id": "one"}, content="SELECT count() FROM of_one").status_code == 404
    assert narrow.post("/", params={"session_id": "x" * 200}, content="SELECT 1").status_code == 400


def test_a_client_that_does_not_read_loses_its_place(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path, concurrent_queries_max="1", answer_time_max_s="1") as server:
        login = {"x-clickhouse-user": "hydra", "x-clickhouse-key": server.admin_password}
        sql = "SELECT number FROM numbers(1000000000) FORMAT TSV"
        lines = [f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {len(sql)}", *(f"{k}: {v}" for k, v in login.items())]
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            idle.sendall(("\r\n".join(lines) + "\r\n\r\n" + sql).encode())
            assert idle.recv(12) == b"HTTP/1.1 200"
            # The next query waits in the queue until the idle one's time is over.
            assert httpx.post(server.url, headers=login, content="SELECT 1", timeout=60).text == "1\n"


def test_nothing_of_the_url_gets_into_the_answers_headers(http: httpx.Client) -> None:
    answer = http.get("/", params={"query": "SELECT 1", "query_id": "a\r\nset-cookie: b"})
    assert (answer.text, "set-cookie" in answer.headers) == ("1\n", False)
    assert (
        http.get("/", params={"query": "SELECT 1", "query_id": "mine-1"}).headers["x-clickhouse-query-id"] == "mine-1"
    )
    answer = http.get("/", params={"query": "SELECT 1", "default_format": "TSV\r\nset-cookie: b"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)


class TestItsLife:
    def test_acknowledged_rows_survive_a_kill_and_a_stop(self, tmp_path: Path) -> None:
        server = ClickHouseProcess(tmp_path)
        server.start()
        try:
            login = ("hydra", server.admin_password)
            with httpx.Client(base_url=server.url, auth=login, timeout=60) as client:
                client.post(
                    "/", content="CREATE TABLE hydra.t (a UInt64) ENGINE = MergeTree ORDER BY a"
                ).raise_for_status()
                client.post("/", content="INSERT INTO hydra.t SELECT number FROM numbers(1000)").raise_for_status()
                server.kill()
                server.start()
                assert client.post("/", content="SELECT count() FROM hydra.t").text == "1000\n"
                assert server.stop() == 0
                server.start()
                assert client.post("/", content="SELECT count() FROM hydra.t").text == "1000\n"
        finally:
            server.kill()

    def test_a_second_one_on_the_same_folder_says_so_and_ends(self, tmp_path: Path) -> None:
        with running_clickhouse(tmp_path) as server:
            assert server.spawn().wait(120) == 1
            assert "HYDRA_CLICKHOUSE_PORT moves it" in server.log_file.read_text()
            server.port += 1
            second = server.spawn()
            assert second.wait(120) == 1
            assert "another process holds the ClickHouse folder" in server.log_file.read_text()
            assert "Traceback" not in server.log_file.read_text()

    def test_it_does_not_start_without_passwords(self, tmp_path: Path) -> None:
        server = ClickHouseProcess(tmp_path)
        server.admin_password_file.unlink()
        assert server.spawn().wait(120) == 1
        assert "clickhouse_admin_password cannot be read" in server.log_file.read_text()
        assert "Traceback" not in server.log_file.read_text()

    def test_a_stop_does_not_wait_for_ever_for_a_query(self, tmp_path: Path) -> None:
        with running_clickhouse(tmp_path, stop_grace_s="1") as server:
            sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
            login = f"x-clickhouse-user: hydra\r\nx-clickhouse-key: {server.admin_password}"
            head = f"POST / HTTP/1.1\r\nhost: x\r\n{login}\r\ncontent-length: {len(sql)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port)) as running:
                running.sendall((head + sql).encode())
                metric = 'hydra_clickhouse_queries_running{user="hydra"} 1.0'
                deadline = time.monotonic() + 60
                while metric not in httpx.get(f"{server.url}/metrics").text:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                assert server.stop() == 0
            server.start()
            assert httpx.get(f"{server.url}/health/ready").status_code == 200
