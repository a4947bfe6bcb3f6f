"""Golden messages of every event version must decode for ever, to the same values and the same hashes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from domain import payload_hash
from schemas import codec
from schemas.charges import ChargesRaised
from schemas.generate import check, event_schema
from schemas.instances import InstanceChanged
from schemas.prices import PriceRecorded
from schemas.topics import EVENT_TYPES, TOPICS
from schemas.usage import TokensUsed

GOLDEN = Path(__file__).parent / "golden"


def test_every_event_type_has_a_golden_message_and_a_topic() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(EVENT_TYPES)
    assert sorted(name for topic in TOPICS for name in topic.events) == sorted(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_a_golden_message_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    raw = (GOLDEN / f"{name}.json").read_bytes().strip()
    assert codec.encode(codec.decode(raw, EVENT_TYPES[name])) == raw


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_a_golden_message_obeys_the_published_schema(name: str) -> None:
    jsonschema.validate(json.loads((GOLDEN / f"{name}.json").read_text()), event_schema(name))


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_unknown_fields_are_ignored_and_missing_ones_refused(name: str) -> None:
    message = json.loads((GOLDEN / f"{name}.json").read_text())
    message["later"] = 1
    message["data"]["later"] = {"x": [1]}
    codec.decode(json.dumps(message).encode(), EVENT_TYPES[name])
    required = EVENT_TYPES[name].__struct_fields__[0]
    del message["data"][required]
    with pytest.raises(msgspec.ValidationError, match=required):
        codec.decode(json.dumps(message).encode(), EVENT_TYPES[name])


def test_an_event_of_another_type_is_refused() -> None:
    raw = (GOLDEN / "hydra.spend.v1.json").read_bytes().replace(b"hydra.spend.v1", b"hydra.spend.v2")
    with pytest.raises(msgspec.ValidationError, match=r"hydra\.spend\.v2"):
        codec.decode(raw, EVENT_TYPES["hydra.spend.v1"])


def test_an_instant_without_an_offset_and_a_negative_count_are_refused() -> None:
    message = json.loads((GOLDEN / "hydra.usage.v1.json").read_text())
    naive = json.loads(json.dumps(message))
    naive["data"]["ended"] = "2026-11-01T08:30:15"
    negative = json.loads(json.dumps(message))
    negative["data"]["prompt_tokens"] = -1
    for bad in (naive, negative):
        with pytest.raises(msgspec.ValidationError):
            codec.decode(json.dumps(bad).encode(), TokensUsed)


def test_payload_hashes_never_change() -> None:
    def data(name: str) -> msgspec.Struct:
        return codec.decode((GOLDEN / f"{name}.json").read_bytes(), EVENT_TYPES[name]).data

    usage, instance, price, charges = (data(f"hydra.{kind}.v1") for kind in ("usage", "instances", "prices", "charges"))
    assert isinstance(usage, TokensUsed)
    assert isinstance(instance, InstanceChanged)
    assert isinstance(price, PriceRecorded)
    assert isinstance(charges, ChargesRaised)
    assert {
        "usage": payload_hash.of_usage(usage),
        "instance": payload_hash.of_instance(instance),
        "price": payload_hash.of_price(price),
        "charge": payload_hash.of_charge(charges.lines[0], charges.source_hash),
    } == HASHES


HASHES = {
    "usage": "5781fe4ca7ba9dc8a4d969b13146e1f3",
    "instance": "e1274e21052c27b0be45a62cbb926b95",
    "price": "2c2c32e92c5374ccc8138aafb60c56b8",
    "charge": "a39771a64aad9245c8f96e91893ff509",
}


def test_the_generated_contract_is_up_to_date_and_breaks_no_reader() -> None:
    assert check() == []
