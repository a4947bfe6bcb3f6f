"""What the node agent refuses to be told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.worker.settings import WorkerSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "2606:4700::1111"])
def test_engines_never_listen_where_strangers_can_reach_them(host: str) -> None:
    with pytest.raises(ValidationError, match="reachable from outside"):
        WorkerSettings(engine_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.7", "::1", "fd00::7", "node-3"])
def test_loopback_and_internal_addresses_are_taken(host: str) -> None:
    assert WorkerSettings(engine_host=host).listen_host == host


def test_a_node_without_gpus_takes_any_spec_in_slots() -> None:
    settings = WorkerSettings(gpu="h20", gpus=5)
    assert (settings.reported_gpu, settings.slots) == ("any", 5)


def test_a_node_with_gpus_must_say_which() -> None:
    with pytest.raises(ValidationError, match="needs gpu, gpus and memory_gb"):
        WorkerSettings(engine="sglang")
    settings = WorkerSettings(engine="sglang", gpu="h20", gpus=8, memory_gb=141)
    assert (settings.reported_gpu, settings.slots) == ("h20", 8)
