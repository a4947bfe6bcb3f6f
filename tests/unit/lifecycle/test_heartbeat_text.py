"""No message on the heartbeat topic can stop lifecycle: what cannot be reckoned with is refused by its reason."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.heartbeats import InstanceHeartbeat, NodeHeartbeat, ReadyPeriod
from services.lifecycle.heartbeat_text import DETAIL_MAX, INSTANCES_MAX, ImpossibleHeartbeat, heartbeat_in

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def raw(data: InstanceHeartbeat | NodeHeartbeat, **changes: object) -> bytes:
    event = json.loads(codec.encode(codec.event(data, id="x", source="/hydra/worker", subject="x", time=NOW)))
    event["data"] |= changes
    return json.dumps(event).encode()


def instances(count: int) -> tuple[str, ...]:
    return tuple(f"i-{number:012x}" for number in range(count))


INSTANCE = InstanceHeartbeat(
    node="n-0123456789ab",
    instance="i-0123456789ab",
    epoch=1,
    beat=1,
    state="ready",
    sent=NOW,
    address="127.0.0.1:31000",
    periods=(ReadyPeriod(number=1, began=NOW, ready_seconds=5),),
)
NODE = NodeHeartbeat(
    node="n-0123456789ab",
    start=1,
    beat=1,
    sent=NOW,
    region="sh-02",
    engine="simulated",
    gpu="any",
    gpus=64,
    memory_gb=0,
)
PERIOD = {"number": 1, "began": "2026-11-01T00:00:00Z", "ready_seconds": 5}


def test_heartbeats_of_both_kinds_come_through_whole() -> None:
    assert heartbeat_in(raw(INSTANCE)) == INSTANCE
    assert heartbeat_in(raw(NODE)) == NODE


def test_what_fills_a_bound_comes_through_whole() -> None:
    told = msgspec.structs.replace(INSTANCE, detail="字" * DETAIL_MAX)
    assert heartbeat_in(raw(told)) == told
    full = msgspec.structs.replace(NODE, instances=instances(INSTANCES_MAX))
    assert heartbeat_in(raw(full)) == full


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "i-1"},
        {"instance": "i-0123456789ab\n"},
        {"epoch": 0},
        {"beat": 2**70},
        {"sent": "2026-11-01T00:00:00"},
        {"sent": "1999-11-01T00:00:00Z"},
        {"address": "a" * 300},
        {"periods": [PERIOD | {"began": "2026-11-01T00:00:00"}]},
        {"periods": [PERIOD | {"began": "9999-12-31T23:59:59Z"}]},
        {"periods": [PERIOD | {"ready_seconds": -1}]},
        {"periods": [PERIOD | {"ready_seconds": 10**12}]},
        {"periods": [PERIOD | {"number": 0}]},
        {"periods": [PERIOD] * 5_000},
        {"node": "n-0123456789a\0"},
        {"detail": "the model\0s files are missing"},
        {"detail": "d" * (DETAIL_MAX + 1)},
        {"detail": "d" * 4_097},
        {"detail": "d" * 1_048_576},
    ],
)
def test_an_instances_impossible_heartbeat_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ImpossibleHeartbeat, msgspec.DecodeError)):
        heartbeat_in(raw(INSTANCE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"node": "x"},
        {"gpus": -1},
        {"gpus": 10**9},
        {"region": "r" * 40},
        {"gpu": "g" * 40},
        {"sent": "2026-11-01"},
        {"region": "sh\0"},
        {"gpu": "h20\0"},
        {"instances": ["i-0123456789ab", "i-1"]},
        {"instances": ["i-0123456789ab\n"]},
        {"instances": ["i-0123456789a\0"]},
        {"instances": instances(INSTANCES_MAX + 1)},
        {"instances": instances(32_768)},
    ],
)
def test_a_nodes_impossible_heartbeat_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ImpossibleHeartbeat, msgspec.DecodeError)):
        heartbeat_in(raw(NODE, **change))


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "gpu-07.rack_2.internal:65535", "::1:31000", "[::1]:31000", "fd00::7:8000", None]
)
def test_an_engine_is_reached_by_a_host_and_a_port(address: str | None) -> None:
    assert heartbeat_in(raw(INSTANCE, address=address)) == msgspec.structs.replace(INSTANCE, address=address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1",
        ":31000",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:080",
        "127.0.0.1:\u0663",
        "127.0.0.1:31000\n",
        "127.0.0.1:31000/v1",
        "http://127.0.0.1:31000",
        "user@inner:31000",
        "inner host:31000",
        "-inner:31000",
        "fe80::1%x/y:31000",
        "[::1:31000",
        "a" * 300 + ":31000",
    ],
)
def test_an_address_that_is_no_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ImpossibleHeartbeat):
        heartbeat_in(raw(INSTANCE, address=address))


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_is_raised(noise: bytes) -> None:
    with pytest.raises((ImpossibleHeartbeat, msgspec.DecodeError)):
        heartbeat_in(noise)
