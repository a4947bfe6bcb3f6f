"""The comparison of a bill with the truth finds what it is there for: right books, and then wrong in one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.bills import Mismatch
from tests.faults.comparison import Books, Comparison
from tests.faults.load import Sent
from tests.faults.truth import Truth

ACCOUNT, MODEL = "u-000000000001", "deepseek-r1"
REGION, SPEC = "sh-02", "rtx4090-1x24g"
COMPLETED, GONE = (f"cmp-{n:032x}" for n in (1, 2))
SERVICE = f"{ACCOUNT}/own"
INSTANCE, OTHERS = "i-000000000001", "i-000000000002"


@dataclass
class World:
    """Two requests, one of a client that left, and an instance that was ready for 40 s; another account has one too."""

    home: Path
    sent: list[Sent]
    books: Books
    deleted: dict[str, datetime] = field(default_factory=dict)

    def differences(self) -> list[str]:
        return Comparison(self.sent, self.books, Truth(self.home), 0, False, self.deleted).differences()


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "ledgers").mkdir()
    (tmp_path / "worker").mkdir()
    lines(
        tmp_path / "ledgers" / "engine.jsonl",
        *(
            {"rid": id, "prompt_tokens": 10, "completion_tokens": 5, "prompts": 1, "n": 1, "ended": "stop"}
            for id in (COMPLETED, GONE)
        ),
    )
    lines(tmp_path / "worker" / "readiness.jsonl", *(ready(id, 40) for id in (INSTANCE, OTHERS)))
    sent = [
        Sent("one", ACCOUNT, f"public/{MODEL}", COMPLETED, 200, whole=True, usage=(10, 5)),
        Sent("two", ACCOUNT, f"public/{MODEL}", GONE, 200, left=True),
    ]
    return World(tmp_path, sent, right_books())


def lines(path: Path, *entries: dict[str, object]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def ready(instance: str, seconds: int) -> dict[str, object]:
    times = {"sent": "2026-11-21T10:00:45+00:00", "epoch": 1, "period": 1}
    return {"instance": instance, "ready_seconds": seconds} | times


def right_books() -> Books:
    tokens = {"prompt_tokens": 10, "cached_tokens": None, "completion_tokens": 5}
    usage = [
        {"id": id, "client_request_id": client_id, "outcome": outcome, "billing": "token", "model": MODEL} | tokens
        for id, client_id, outcome in ((COMPLETED, "one", "completed"), (GONE, "two", "client_gone"))
    ]
    paid = {"account": ACCOUNT, "currency": "CNY", "instance": None}
    charges = [
        paid | {"source_type": "usage", "source_event": id, "meter": meter, "quantity": quantity, "amount": amount}
        for id in (COMPLETED, GONE)
        for meter, quantity, amount in (("input_tokens", 10, "0.00004"), ("output_tokens", 5, "0.00008"))
    ]
    place = {"instance": INSTANCE, "access_path": SERVICE, "billing": "operator", "region": REGION, "spec": SPEC}
    proven = {"billable_from": "2026-11-21 10:00:00", "billable_until": "2026-11-21 10:00:40", "billable_seconds": 40}
    none = dict.fromkeys(proven)
    return Books(
        known={COMPLETED, GONE},
        known_instances={INSTANCE, OTHERS},
        usage=usage,
        charges=charges,
        unbilled={},
        instances=[
            place | {"state": "ready", "at": "2026-11-21 10:00:40"} | proven,
            place | {"state": "ended", "at": "2026-11-21 10:01:00"} | none,
        ],
        conflicts=[],
        parked=[],
        balances={ACCOUNT: SimpleNamespace(spent_total={"CNY": sum(Fraction(row["amount"]) for row in charges)})},
    )


def test_books_that_are_right_differ_in_nothing(world: World) -> None:
    assert world.differences() == []


@pytest.mark.parametrize(("early_s", "billed_past"), [(-20, False), (0, False), (1, False), (2, True), (30, True)])
def test_seconds_behind_the_deletion_of_a_service_are_missed_by_no_later_stamp(
    world: World, early_s: int, billed_past: bool
) -> None:
    """Bill and truth both end where the books say that it was stopped; when it was asked for only the client knows."""
    billed_until = datetime(2026, 11, 21, 10, 0, 40, tzinfo=UTC)
    world.deleted[SERVICE] = billed_until - timedelta(seconds=early_s)
    assert [f"{INSTANCE} is billed until" in one for one in world.differences()] == ([True] if billed_past else [])


def test_an_instance_that_lost_all_its_events_is_missed(world: World) -> None:
    world.books.instances.clear()
    world.books.known_instances.discard(INSTANCE)
    assert world.differences() == [f"{INSTANCE} has no event, its agent has proven 40 s"]


def test_an_instance_that_was_never_ready_needs_no_event(world: World) -> None:
    lines(world.home / "worker" / "readiness.jsonl", ready("i-000000000003", 0))
    assert world.differences() == []


@pytest.mark.parametrize("outcome", ["client_gone", "client_gone_unreported"])
@pytest.mark.parametrize("error", [None, httpx.ReadError("reset"), ConnectionResetError()])
def test_a_client_that_stayed_is_not_gone(world: World, outcome: str, error: Exception | None) -> None:
    """Also where its connection broke under it, as when a gateway dies."""
    world.sent[1] = stayed = Sent("two", ACCOUNT, f"public/{MODEL}", GONE, 200)
    if error is not None:
        stayed.failed(error)
    world.books.usage[1]["outcome"] = outcome
    said = f"recorded as {outcome}, but the client stayed: {stayed}"
    assert said in world.differences()


def test_two_requests_of_one_engine_request_id_are_a_wrong_bill(world: World) -> None:
    tokens = {"prompt_tokens": 10, "completion_tokens": 5, "prompts": 1, "n": 1}
    lines(world.home / "ledgers" / "engine.jsonl", {"rid": GONE, "ended": "stop"} | tokens)
    with pytest.raises(Mismatch, match=GONE):
        world.differences()


def left(sent: Sent) -> None:
    sent.left = True


def timed_out(sent: Sent) -> None:
    sent.failed(httpx.ReadTimeout("nothing came"))


@pytest.mark.parametrize("go", [left, timed_out])
def test_a_client_that_left_or_waited_no_longer_is_gone(world: World, go: Callable[[Sent], None]) -> None:
    world.sent[1] = Sent("two", ACCOUNT, f"public/{MODEL}", GONE)
    go(world.sent[1])
    assert world.differences() == []


@pytest.mark.parametrize(
    ("outcome", "reported", "fits"),
    [("client_gone", 5, True), ("client_gone", 9, True), ("client_gone", 4, False), ("completed", 5, False)],
)
def test_what_a_killed_engine_had_reported_is_the_most_that_who_left_pays(
    world: World, outcome: str, reported: int, fits: bool
) -> None:
    tokens = {"prompt_tokens": 10, "completion_tokens": reported, "prompts": 1, "n": 1}
    (finished, _) = (world.home / "ledgers" / "engine.jsonl").read_text().splitlines()
    (world.home / "ledgers" / "engine.jsonl").write_text(finished + "\n")
    lines(world.home / "ledgers" / "engine.jsonl", {"rid": GONE, "ended": "killed"} | tokens)
    world.books.usage[1]["outcome"] = outcome
    assert (world.differences() == []) == fits
