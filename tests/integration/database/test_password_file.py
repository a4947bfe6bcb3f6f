"""PostgreSQL's password by a file of its own, where an URL in the environment could be read by others."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from adapters.database.engine import Database
from adapters.errors import Misconfigured, Unavailable

SETTING = "HYDRA_ACCOUNTS_DATABASE_URL"
FILE_SETTING = "HYDRA_ACCOUNTS_DATABASE_PASSWORD_FILE"
URL = "postgresql://hydra@db.example/hydra"
PASSWORD = "p@ss/word: with%signs"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def put_first(file: Path, line: str) -> None:
    file.write_text(f"{line}\n{file.read_text()}")


async def login_with_password(server: str, password: str) -> str:
    """The URL, without its password, of a new user whom this server asks for it."""
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    # The first rule that fits counts, and the server's own trust everybody.
    put_first(Path(await connection.fetchval("SHOW hba_file")), f"local all {name} scram-sha-256")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    return server.replace("//postgres:@", f"//{name}@")


async def let_in(url: str, password_file: Path) -> None:
    database = Database(url, setting=SETTING, password_file=password_file)
    try:
        async with database.transaction() as session:
            assert await session.scalar(sa.text("SELECT current_user")) == make_url(url).username
    finally:
        await database.close()


async def test_a_server_that_asks_for_a_password_gets_the_files(postgresql: str, file: Path, tmp_path: Path) -> None:
    url = await login_with_password(postgresql, PASSWORD)
    assert PASSWORD not in url
    wrong = tmp_path / "wrong"
    wrong.write_text("another")
    with pytest.raises(Unavailable, match="refuses the user or its password"):
        async with asyncio.timeout(60):
            # The server reads its rules again a moment after it was told to.
            while True:
                await let_in(url, wrong)
    await let_in(url, file)


def test_nothing_of_the_password_shows(file: Path) -> None:
    database = Database(URL, setting=SETTING, password_file=file)
    assert database.engine.url.password == PASSWORD
    assert PASSWORD not in f"{database.engine!r} {database.engine.url}"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://hydra:secret@db.example/hydra", f"{SETTING} holds a password too"),
        ("postgresql://hydra@db.example/hydra?password=secret", f"{SETTING} holds a password too"),
        ("sqlite:////tmp/accounts.db", f"{SETTING} names no server"),
    ],
)
def test_a_file_for_an_url_that_needs_none_is_refused(file: Path, url: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=f"{FILE_SETTING} is set, but {says}") as refused:
        Database(url, setting=SETTING, password_file=file)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read .No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "cannot be read .it is no text"),
    ],
)
def test_a_file_that_tells_no_password_is_named(file: Path, content: bytes | None, says: str) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misconfigured, match=f"{FILE_SETTING}: {file} {says}"):
        Database(URL, setting=SETTING, password_file=file)
