"""`hydra demo` ends what it has begun, and nothing of somebody else's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import typer

from cli.commands import platform


@pytest.mark.parametrize(
    ("present", "stops"), [("starting", False), ("stopping", False), ("stopped", True), (None, True)]
)
def test_a_start_that_fails_stops_only_what_it_began(
    monkeypatch: pytest.MonkeyPatch, present: str | None, stops: bool
) -> None:
    found = None if present is None else SimpleNamespace(state=present)
    stopped: list[object] = []
    monkeypatch.setattr(platform.platform_status, "read", lambda settings: found)
    monkeypatch.setattr(platform.supervisor, "start_detached", lambda settings: 1)
    monkeypatch.setattr(platform.supervisor, "stop", stopped.append)
    with pytest.raises(typer.Exit) as ended:
        platform.demo()
    assert ended.value.exit_code == 1
    assert bool(stopped) == stops
