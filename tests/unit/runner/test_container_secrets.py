"""The compose file's first step: every reader finds what it reads, owner's alone, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, BILLING
from runner.container_secrets import BILLING_USER_SETTING, handed_to_readers, main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volumes as the image makes them, all empty."""
    for reader in (*handed_to_readers(BILLING), "clickhouse", "grafana"):
        (tmp_path / "handed" / reader).mkdir(parents=True)
    monkeypatch.setenv("HYDRA_HOME", str(tmp_path))
    monkeypatch.delenv(BILLING_USER_SETTING, raising=False)
    return tmp_path


def held_by(home: Path, reader: str) -> set[str]:
    return {path.name for path in (home / "handed" / reader).iterdir()}


def test_each_reader_can_read_its_secrets_and_holds_no_other(home: Path) -> None:
    assert main() == 0
    for reader, names in handed_to_readers(BILLING).items():
        assert held_by(home, reader) == set(names), reader
        for name in names:
            # `read` refuses a file that others than its owner may read.
            assert secret_files.read(home / "handed" / reader, name) == secret_files.read(home / "secrets", name)


def test_a_node_has_neither_the_operators_token_nor_a_password(home: Path) -> None:
    assert main() == 0
    node = "".join(path.read_text() for path in (home / "handed" / "node").iterdir())
    for name in set(secret_files.ALL) - {secret_files.CLUSTER_SECRET}:
        assert secret_files.read(home / "secrets", name) not in node, name


def test_servers_of_other_users_find_one_password_each(home: Path) -> None:
    assert main() == 0
    for server in ("clickhouse", "grafana"):
        assert held_by(home, server) == {"password"}
        assert (home / "handed" / server / "password").stat().st_mode & 0o777 == 0o444
    admin = secret_files.read(home / "secrets", secret_files.CLICKHOUSE_ADMIN_PASSWORD)
    assert (home / "handed" / "clickhouse" / "password").read_text() == admin


def test_again_it_changes_nothing(home: Path) -> None:
    def all_files() -> dict[Path, tuple[str, int]]:
        return {path: (path.read_text(), path.stat().st_ino) for path in home.rglob("*") if path.is_file()}

    assert main() == 0
    before = all_files()
    assert main() == 0
    assert all_files() == before


def test_a_renewed_secret_is_handed_on(home: Path) -> None:
    assert main() == 0
    old = secret_files.read(home / "secrets", secret_files.OPERATOR_TOKEN)
    (home / "secrets" / secret_files.OPERATOR_TOKEN).unlink()
    assert main() == 0
    new = secret_files.read(home / "secrets", secret_files.OPERATOR_TOKEN)
    assert new != old
    for reader in ("lifecycle", "billing"):
        assert secret_files.read(home / "handed" / reader, secret_files.OPERATOR_TOKEN) == new


def test_billing_holds_the_owners_password_only_while_it_reads_as_the_owner(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secret_files.OPERATOR_TOKEN
    for user, password in (
        (BILLING, secret_files.BILLING_PASSWORD),
        (ADMIN, secret_files.CLICKHOUSE_ADMIN_PASSWORD),
        (BILLING, secret_files.BILLING_PASSWORD),
    ):
        monkeypatch.setenv(BILLING_USER_SETTING, user)
        assert main() == 0
        assert held_by(home, "billing") == {token, password}


def test_what_a_killed_run_left_half_written_is_cleared(home: Path) -> None:
    (home / "handed" / "node" / f"{secret_files.CLUSTER_SECRET}.new").write_text("ha")
    assert main() == 0
    assert held_by(home, "node") == {secret_files.CLUSTER_SECRET}


def test_a_volume_that_is_not_there_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "handed" / "node").rmdir()
    assert main() != 0
    assert "handed/node" in capsys.readouterr().err
