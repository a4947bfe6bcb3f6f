"""Whoever types a key where its id belongs is told so, and the key goes nowhere."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.__main__ import main
from cli.commands import keys
from cli.failures import EXIT_USAGE, CommandFailed
from domain.ids import api_key, masked_key

KEY = api_key(bytes(range(32)))


@pytest.mark.parametrize("command", ["disable", "enable", "delete"])
@pytest.mark.parametrize("typed", [KEY, f" {KEY}", KEY[:20], masked_key(KEY)])
def test_a_key_in_the_place_of_its_id_is_refused_before_anything_is_sent(command: str, typed: str) -> None:
    # Nothing listens there: what is sent ends as `accounts does not answer`.
    nowhere = {"HYDRA_ACCOUNTS_URL": "http://127.0.0.1:1", "HYDRA_API_KEY": KEY}
    failure = CliRunner().invoke(keys.app, [command, typed], env=nowhere).exception
    assert isinstance(failure, CommandFailed) and failure.exit_code == EXIT_USAGE
    assert str(failure) == "that is the key itself; name its id, k-...: `hydra key ls` shows it"
    sent = CliRunner().invoke(keys.app, [command, "k-5566778899aa"], env=nowhere).exception
    assert "does not answer" in str(sent)


def test_no_error_line_holds_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["hydra", "key", "ls", "--account", "me"])
    monkeypatch.setenv("HYDRA_API_KEY", KEY)
    monkeypatch.setenv("HYDRA_ACCOUNTS_URL", f"http://127.0.0.1:1/{KEY}")
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert KEY not in told and "sk-AAEC...dHh8" in told
