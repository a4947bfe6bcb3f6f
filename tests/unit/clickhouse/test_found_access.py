"""What the step `analyst` hands to billing: whom it reads as, and a password only where it has no user of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import secret_files
from adapters.clickhouse.found_access import FOLDER, FoundAccess, found_access, keep
from adapters.errors import Misconfigured
from services.billing.reader import login

OWN = FoundAccess(analyst="analyst: SQL user on the server", billing_user="billing")
OWNERS = FoundAccess(analyst="no analyst", billing_user="hydra")
PASSWORD = secret_files.CLICKHOUSE_ADMIN_PASSWORD


def test_what_is_kept_is_found_again_by_its_owner_alone(tmp_path: Path) -> None:
    assert found_access(tmp_path) is None
    for found in (OWN, OWNERS, OWN):
        keep(tmp_path, found, "the-password")
        assert found_access(tmp_path) == found
        assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o600}


def test_the_owners_password_is_there_only_while_billing_reads_as_the_owner(tmp_path: Path) -> None:
    keep(tmp_path, OWNERS, "the-password")
    assert secret_files.read(tmp_path / FOLDER, PASSWORD) == "the-password"
    keep(tmp_path, OWN, "the-password")
    assert "the-password" not in "".join(path.read_text() for path in (tmp_path / FOLDER).iterdir())


def test_billing_reads_as_whom_the_step_has_found(tmp_path: Path) -> None:
    own = ("billing", tmp_path / "secrets" / secret_files.BILLING_PASSWORD)
    assert login(tmp_path, "found") == own  # where no step has run
    keep(tmp_path, OWNERS, "the-password")
    assert login(tmp_path, "found") == ("hydra", tmp_path / FOLDER / PASSWORD)
    keep(tmp_path, OWN, "the-password")
    assert login(tmp_path, "found") == own


def test_a_setting_of_the_operator_counts_more(tmp_path: Path) -> None:
    keep(tmp_path, OWNERS, "the-password")
    assert login(tmp_path, "billing")[0] == "billing"
    keep(tmp_path, OWN, "the-password")
    assert login(tmp_path, "hydra") == ("hydra", tmp_path / "secrets" / PASSWORD)


@pytest.mark.parametrize("content", ["", "{}", '{"analyst": "a", "billing_user": "root"}'])
def test_a_file_that_is_none_stops_billing(tmp_path: Path, content: str) -> None:
    keep(tmp_path, OWN, "the-password")
    (tmp_path / FOLDER / "clickhouse.json").write_text(content)
    with pytest.raises(Misconfigured, match="run the step `analyst` again"):
        login(tmp_path, "found")
