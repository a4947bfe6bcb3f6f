"""ClickHouse's HTTP interface, tried through everything but the statement itself: URL, headers, packed bodies."""

import gzip
import struct
import zlib
from collections.abc import Iterator

import httpx
import lz4.frame
import pytest
import zstandard

from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse

SECRET = "only-for-the-platform"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    folder = tmp_path_factory.mktemp("doors")
    with running_clickhouse(folder, body_bytes_max="2000000") as server:
        (folder / "secret.txt").write_text(SECRET)
        with httpx.Client(base_url=server.url, auth=("hydra", server.admin_password), timeout=60) as admin:
            for sql in (
                "CREATE DATABASE elsewhere",
                "CREATE TABLE elsewhere.t (a String) ENGINE = MergeTree ORDER BY a",
            ):
                admin.post("/", content=sql).raise_for_status()
            admin.post("/", content=f"INSERT INTO elsewhere.t VALUES ('{SECRET}')").raise_for_status()
            # A session of the platform's own, in which a temporary table holds the secret.
            session = {"session_id": "platform"}
            made = admin.post("/", params=session, content=f"CREATE TEMPORARY TABLE mine AS SELECT '{SECRET}' AS a")
            made.raise_for_status()
            yield server
            assert admin.post("/", content="SELECT count() FROM elsewhere.t").text == "1\n"


@pytest.fixture(params=["analyst", "billing"])
def reader(server: ClickHouseProcess, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    password = server.analyst_password if request.param == "analyst" else server.billing_password
    with httpx.Client(base_url=server.url, auth=(request.param, password), timeout=60) as client:
        yield client


def test_nothing_beside_the_statement_opens_a_door(server: ClickHouseProcess, reader: httpx.Client) -> None:
    file = f"file('{server.home}/secret.txt', 'LineAsString')"
    tried: list[tuple[dict[str, str], bytes, dict[str, str]]] = [
        # A statement in two halves, of which neither is forbidden.
        ({"query": "SELECT * FROM"}, file.encode(), {}),
        ({"query": "SELECT 1;"}, f"SELECT * FROM {file}".encode(), {}),
        ({"query": "SELECT 1 /*"}, f"*/ FROM {file}".encode(), {}),
        ({"query": "INSERT INTO elsewhere.t FORMAT TSV"}, b"x", {}),
        ({"query": "SELECT * FROM elsewhere.t"}, b"", {}),
        # Another's session, database, role, quota.
        ({"session_id": "platform"}, b"SELECT * FROM mine", {}),
        ({"session_id": "platform", "session_check": "1"}, b"SELECT * FROM mine", {}),
        ({"database": "elsewhere.t", "default_format": "TSV"}, b"SELECT * FROM t", {}),
        ({}, b"SELECT * FROM system.processes", {"X-ClickHouse-Database": "system"}),
        ({"role": "hydra", "quota_key": "x"}, b"SELECT * FROM elsewhere.t", {}),
        # Settings that lift a limit, read a file or show another's rows.
        ({"readonly": "0"}, b"SELECT * FROM elsewhere.t", {}),
        ({"readonly": "2", "allow_ddl": "1"}, b"CREATE TABLE hydra.x (a UInt8) ENGINE = Memory", {}),
        ({"additional_result_filter": "1"}, f"SELECT * FROM {file}".encode(), {}),
        ({"format_schema": f"{server.home}/secret.txt:a"}, b"SELECT 1 FORMAT Protobuf", {}),
        ({"format_template_row": f"{server.home}/secret.txt"}, b"SELECT 1 FORMAT Template", {}),
        ({"output_format_schema": f"{server.home}/out"}, b"SELECT 1 FORMAT CapnProto", {}),
        ({"allow_introspection_functions": "1"}, b"SELECT demangle('x')", {}),
        ({"dialect": "prql"}, b"from elsewhere.t", {}),
        ({"dialect": "kusto"}, b"elsewhere.t", {}),
        ({"SQL_a": "1"}, b"SELECT getSetting('SQL_a')", {}),
        ({"log_comment": SECRET}, b"SELECT 1", {}),
        # Parameters in the place of names.
        ({"param_t": "elsewhere"}, b"SELECT * FROM {t:Identifier}.t", {}),
        ({"param_f": "file"}, f"SELECT {{f:Identifier}}('{server.home}/secret.txt')".encode(), {}),
        ({"param_x": "1) UNION ALL SELECT * FROM elsewhere.t --"}, b"SELECT toString({x:UInt64})", {}),
    ]
    for parameters, body, headers in tried:
        answer = reader.post("/", params=parameters, content=body, headers=headers)
        assert answer.status_code >= 400 and answer.status_code != 500, (parameters, body, answer.text)
        assert SECRET not in answer.text
    assert not (server.home / "out").exists()


def test_only_one_login_counts(server: ClickHouseProcess) -> None:
    """Nobody becomes another by naming two: the one that is looked at must have the right password."""
    analyst = httpx.BasicAuth("analyst", server.analyst_password)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for parameters, headers in (
            ({"user": "hydra", "password": ""}, {}),
            ({"user": "hydra"}, {"X-ClickHouse-User": "hydra"}),
            ({}, {"X-ClickHouse-User": "hydra", "X-ClickHouse-Key": server.analyst_password}),
        ):
            answer = client.post(
                "/", params=parameters, headers=headers, auth=analyst, content="DROP TABLE elsewhere.t"
            )
            assert answer.status_code in (401, 403), (parameters, headers)
            alone = client.post("/", params=parameters, headers=headers, content="SELECT 1")
            assert alone.status_code in (401, 403)


BOMB = b"SELECT '" + b" " * 50_000_000 + b"'"


def bombs() -> list[tuple[str, bytes]]:
    """Small bodies that unpack to much, or say that they will."""
    compressor = zlib.compressobj()
    deflated = compressor.compress(BOMB) + compressor.flush()
    declared = lz4.frame.compress(b"SELECT 1", store_size=True)
    # The frame's own word for its size, in the eight bytes behind its descriptor.
    lying_lz4 = declared[:6] + struct.pack("<Q", 1 << 62) + declared[14:]
    # A zstd frame whose window is 2 GiB: what a reader would set aside before it sees a byte.
    wide_zstd = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    nested = gzip.compress(gzip.compress(BOMB))
    return [
        ("gzip", gzip.compress(BOMB)),
        ("deflate", deflated),
        ("zstd", zstandard.compress(BOMB)),
        ("lz4", lz4.frame.compress(BOMB)),
        ("lz4", lying_lz4),
        ("zstd", wide_zstd),
        ("gzip", nested),
        ("gzip, gzip", nested),
        ("br", b"\x1b" + b"\xff" * 100),
        ("snappy", b"\xff" * 100),
    ]


def test_no_body_unpacks_to_more_than_is_allowed(server: ClickHouseProcess) -> None:
    logins = {"hydra": server.admin_password, "analyst": server.analyst_password, "billing": server.billing_password}
    packed = bombs()
    for user, password in logins.items():
        with httpx.Client(base_url=server.url, auth=(user, password), timeout=120) as client:
            for encoding, body in packed:
                answer = client.post("/", content=body, headers={"Content-Encoding": encoding})
                assert answer.status_code in (400, 403, 413), (user, encoding, answer.status_code, answer.text[:200])
            # ClickHouse's own framing, with a size of two gigabytes in its head.
            native = b"\x00" * 16 + b"\x82" + struct.pack("<II", 30, 1 << 31) + b"x" * 21
            answer = client.post("/", params={"decompress": "1"}, content=native)
            assert answer.status_code in (400, 403), (user, answer.text[:200])
            assert client.post("/", content="SELECT 1").text == "1\n"


def test_a_readers_packed_form_is_bounded_as_its_statement_is(server: ClickHouseProcess) -> None:
    """A million empty fields would be read for minutes."""
    form = b'\r\n--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' * 40_000 + b"\r\n--b--\r\n"
    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=b"}
    with httpx.Client(base_url=server.url, auth=("analyst", server.analyst_password), timeout=120) as client:
        answer = client.post("/", content=gzip.compress(form), headers=headers)
        assert answer.status_code == 413, (answer.status_code, answer.text[:200])
        assert client.post("/", content="SELECT 1").text == "1\n"


def test_what_is_asked_beside_queries_tells_a_stranger_nothing(server: ClickHouseProcess) -> None:
    """Health and metrics need no login: they hold no row, no statement and no secret."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for path in (
            "/metrics",
            "/health/ready",
            "/health/live",
            "/ping",
            "/",
            "/play",
            "/dashboard",
            "/replicas_status",
        ):
            text = client.get(path).text
            for word in (SECRET, server.admin_password, server.analyst_password, "SELECT", str(server.home)):
                assert word not in text, path
