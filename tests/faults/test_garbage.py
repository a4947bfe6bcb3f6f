"""Garbage on every topic and every port of a running platform: refused with a reason, and all behind it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from adapters.kafka.parking import read_parked
from schemas import codec
from schemas.topics import (
    ACCOUNTS,
    API_KEYS,
    BALANCES,
    CHARGES,
    DEPLOYMENTS,
    HEARTBEATS,
    INSTANCES,
    PARKED,
    PLACEMENTS,
    PRICES,
    SPEND,
    STOPS,
    TOPICS,
    USAGE,
    Topic,
)
from tests.bills import Mismatch, bills_agree
from tests.faults.comparison import sql
from tests.faults.garbage import Garbage, bytes_of_nothing, golden, spoilt
from tests.faults.http_garbage import Call, Routes, answer_to, chat_bodies, completion_bodies, no_requests
from tests.faults.truth import Truth
from tests.integration.whole_platform.balances import read_balances
from tests.servers.platform import Platform, running_platform, wait_until
from tests.servers.topic_reading import records_of

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
EACH = int(os.environ.get("HYDRA_FAULTS_GARBAGE", "40"))
"""Spoilt messages of each type of event; 0: all that there are."""
CALLS = int(os.environ.get("HYDRA_FAULTS_CALLS", "250"))
"""Spoilt requests to each service; 0: all that there are."""
HEALTH = {"clickhouse": "/ping"}
REFUSED = re.compile(rb"HTTP/1\.[01] (4\d\d|501|505) ")
PARKED_WITHIN_S = 180.0
MODEL = "public/deepseek-r1"

READERS: dict[str, tuple[str, ...]] = {
    USAGE.name: ("token_charges", "warehouse"),
    INSTANCES.name: ("instance_charges", "warehouse"),
    CHARGES.name: ("warehouse",),
    PRICES.name: ("warehouse",),
    PARKED.name: ("warehouse",),
    STOPS.name: ("warehouse",),
}
"""Who parks what cannot be read of a topic."""
STATE_READERS = {
    ACCOUNTS.name: "gateway",
    API_KEYS.name: "gateway",
    DEPLOYMENTS.name: "gateway",
    BALANCES.name: "gateway",
    PLACEMENTS.name: "worker",
}


@dataclass
class Thrown:
    """What was put on the topics: by topic how many, and the places of those that must be parked."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[str, int, int], str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("garbage") / "home") as made:
        yield made


def ask(platform: Platform, key: str, model: str = MODEL) -> None:
    """One request that is answered."""
    answer = httpx.post(
        platform.url("gateway") + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={"model": model, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 8},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def charged(platform: Platform, account: str) -> Counter[str]:
    """How many charges an account has, by meter."""
    rows = sql(platform, f"SELECT meter, count() AS lines FROM v_charges WHERE account = '{account}' GROUP BY meter")
    return Counter({row["meter"]: int(row["lines"]) for row in rows})


def await_proven_seconds(platform: Platform, account: str) -> None:
    """Wait until a heartbeat has proven a second of the service's instances: what is deleted before pays for none."""
    instances = [entry["id"] for entry in platform.service("own", account)["instances"]]
    wait_until(
        lambda: any(Truth(platform.home).seconds(instance, None) for instance in instances), "a second is proven"
    )


def assert_charged(platform: Platform, account: str, requests: int) -> None:
    """Wait until so many requests and some instance time are charged, and nothing is in conflict."""

    def all_charged() -> bool:
        found = charged(platform, account)
        if found["output_tokens"] > requests:
            raise Mismatch(f"{found['output_tokens']} requests of one token each are charged, {requests} were sent")
        return found["output_tokens"] == requests and bool(found["instance_seconds"])

    wait_until(all_charged, f"what is behind the garbage is charged to {account}")
    bills_agree(sql(platform, "SELECT * FROM conflicts LIMIT 5"), [])


async def throw(platform: Platform) -> Thrown:
    """Spoil the newest real message of each type and publish it under its own key, amid bytes that are no message."""
    chance, thrown = random.Random(SEED), Thrown()
    producer = AIOKafkaProducer(bootstrap_servers=platform.kafka, max_request_size=2_097_152, linger_ms=5)
    await producer.start()
    try:
        for topic in TOPICS:
            sent = []
            for key, garbage in await garbage_for(platform, topic, chance):
                sent.append((garbage, await producer.send(topic.name, garbage.value, key=key)))
            for garbage, future in sent:
                place = await future
                thrown.counts[topic.name] += 1
                if topic.name in READERS:
                    thrown.places[topic.name, place.partition, place.offset] = garbage.what
    finally:
        await producer.stop()
    return thrown


async def garbage_for(platform: Platform, topic: Topic, chance: random.Random) -> list[tuple[bytes, Garbage]]:
    real: dict[str, tuple[bytes, bytes]] = {}
    for record in await records_of(platform.kafka, topic):
        if record.value and record.key:
            real[codec.decode_head(record.value).type] = (record.key, record.value)
    found: list[tuple[bytes, Garbage]] = []
    for event_type in topic.events:
        key, message = real.get(event_type, (b"nobody", golden(event_type)))
        found += [(key, one) for one in spoilt(message, chance, EACH or None)]
        # A tombstone under a real key would be a true deletion on a compacted topic.
        found += [(key if one.value is not None else b"nobody", one) for one in bytes_of_nothing()]
        others = [other for kept in TOPICS for other in kept.events if other not in topic.events]
        found += [(key, Garbage(f"is a {other}", golden(other))) for other in others]
        if topic.name in STATE_READERS:
            found.append((b"somebody else's", Garbage("another's state under this key", message)))
    chance.shuffle(found)
    return found


def metric(platform: Platform, process: str, name: str) -> Counter[tuple[tuple[str, str], ...]]:
    text = httpx.get(platform.url(process) + "/metrics", timeout=30).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return Counter({tuple(s.labels.items()): int(s.value) for s in samples if s.name == name})


def assert_all_parked_with_a_reason(platform: Platform, thrown: Thrown) -> None:
    expected = {
        (processor, topic, partition, offset)
        for topic, partition, offset in thrown.places
        for processor in READERS[topic]
    }

    def lacking() -> set[tuple[str, str, int, int]]:
        parked = asyncio.run(read_parked(platform.kafka))
        assert all(entry.message.reason and entry.message.detail for entry in parked)
        return expected - {
            (e.message.processor, e.message.topic, e.message.partition, e.message.offset) for e in parked
        }

    wait_until(lambda: not lacking(), "all garbage is parked", PARKED_WITHIN_S)
    named = [f"{place}: {thrown.places[place[1:]]}" for place in sorted(lacking())]
    assert not named, named[:20]


def statuses(platform: Platform) -> dict[str, Any]:
    return {one["name"]: one for one in platform.hydra("status")["processes"]}


def test_what_is_behind_garbage_still_has_its_effect(platform: Platform) -> None:
    early = platform.new_account("early", spend_limit="1000")
    early_key = platform.new_key(early)
    ask(platform, early_key)
    words = ("--model", "qwen2.5-7b-instruct", "--region", "sh-02", "--account", early)
    platform.hydra("service", "deploy", "own", *words)
    platform.await_ready("own", early, 1)
    wait_until(lambda: charged(platform, early)["output_tokens"] == 1, "the first request is charged")
    wait_until(lambda: early in asyncio.run(read_balances(platform.kafka)), "there is a balance to be spoilt")

    thrown = asyncio.run(throw(platform))
    assert min(thrown.counts[topic.name] for topic in TOPICS) > 20

    # Behind it: an account and a key, a service, a request, its charge, its balance, instance seconds.
    late = platform.new_account("late", spend_limit="1000")
    late_key = platform.new_key(late)
    for key in (early_key, late_key):
        ask(platform, key)
    platform.hydra("service", "deploy", "own", *words[:-1], late)
    platform.await_ready("own", late, 1)
    platform.await_ready("own", early, 1)
    for account, key in ((early, early_key), (late, late_key)):
        ask(platform, key, f"{account}/own")
        await_proven_seconds(platform, account)
        platform.hydra("service", "delete", "own", "--confirm", "own", "--account", account)

    assert_all_parked_with_a_reason(platform, thrown)
    for account, requests in ((early, 2), (late, 1)):
        assert_charged(platform, account, requests)
    wait_until(lambda: balances_are_what_is_charged(platform, early, late), "balances are what is charged")
    for name, count in ((name, thrown.counts[name]) for name in STATE_READERS):
        refused = metric(platform, STATE_READERS[name], "hydra_state_bad_records_total")
        # One tombstone a type is no garbage on a compacted topic; all else must have been refused.
        assert refused[(("topic", name),)] == count - 1, name
    # A tombstone and an empty message state nothing. It reads all again where its group rebalances.
    unread = metric(platform, "live_spend", "hydra_state_bad_records_total")[(("topic", SPEND.name),)]
    assert unread >= thrown.counts[SPEND.name] - 2
    bad = sum(metric(platform, "lifecycle", "hydra_lifecycle_bad_heartbeats_total").values())
    assert bad >= thrown.counts[HEARTBEATS.name] * 0.9


def balances_are_what_is_charged(platform: Platform, *accounts: str) -> bool:
    balances = asyncio.run(read_balances(platform.kafka))
    for account in accounts:
        (row,) = sql(platform, f"SELECT toString(sum(amount)) AS total FROM v_charges WHERE account = '{account}'")
        stated = balances[account].spent_total.get("CNY", 0) if account in balances else None
        if stated is None or f"{stated:f}".rstrip("0") != f"{row['total']}".rstrip("0"):
            return False
    return True


def test_bytes_that_are_no_request_are_refused_on_every_port(platform: Platform) -> None:
    chance = random.Random(SEED)
    for name, port in platform.ports.items():
        if name == "kafka":
            continue  # it speaks no HTTP, and is not ours
        for what, sent in no_requests(chance):
            answer = answer_to(port, sent)
            head = answer.split(b"\r\n", 1)[0]
            assert b"Traceback" not in answer, (name, what, answer[:500])
            # Closed without a word, or told that it is wrong; a name of the host alone may be anything.
            assert not answer or REFUSED.match(head) or what == "a host that none is", (name, what, answer[:500])
            assert httpx.get(platform.url(name) + HEALTH.get(name, "/health/live"), timeout=30).status_code == 200, what


@pytest.mark.parametrize("service", ["accounts", "lifecycle", "billing"])
def test_every_field_of_every_route_may_be_wrong(platform: Platform, service: str) -> None:
    headers = {"Authorization": f"Bearer {platform.operator_token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=platform.url(service), headers=headers, timeout=60) as client:
        calls = list(Routes(client.get("/openapi.json").json()).calls())
        chosen = calls if not CALLS else random.Random(SEED).sample(calls, min(CALLS, len(calls)))
        for call in chosen:
            answer = client.request(call.method, call.path, content=as_json(call.body))
            assert_sound(answer, call)


@pytest.mark.parametrize(
    ("path", "bodies"), [("/v1/chat/completions", chat_bodies), ("/v1/completions", completion_bodies)]
)
def test_every_field_of_an_inference_request_may_be_wrong(
    platform: Platform, path: str, bodies: Callable[[str], Iterator[tuple[str, Any]]]
) -> None:
    account = platform.new_account("spoiler")
    headers = {"Authorization": f"Bearer {platform.new_key(account)}", "Content-Type": "application/json"}
    with httpx.Client(base_url=platform.url("gateway"), headers=headers, timeout=60) as client:
        wrong = list(bodies(MODEL))
        for what, body in wrong if not CALLS else random.Random(SEED).sample(wrong, CALLS):
            answer = client.post(path, content=as_json(body))
            assert_sound(answer, Call("POST", path, what))


def as_json(body: Any) -> bytes | None:
    """As a client with another idea of JSON writes it: numbers that are none, halves of characters."""
    return None if body is None else json.dumps(body).encode(errors="surrogatepass")


def assert_sound(answer: httpx.Response, call: Call) -> None:
    said = f"{call.method} {call.path[:100]} ({call.what}): {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, said
    assert "Traceback" not in answer.text, said
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["code"] and error["message"], said


def test_no_process_died_of_it_or_showed_a_traceback(platform: Platform) -> None:
    for one in statuses(platform).values():
        assert (one["restarts"], one["state"] in ("ready", "done")) == (0, True), one
    assert statuses(platform)["warehouse"]["reason"].startswith("parked messages wait for you: ")
    for log in sorted(Path(platform.home / "logs").rglob("*.log")):
        text = log.read_text(errors="replace")
        assert "Traceback" not in text, (log.name, text[text.index("Traceback") :][:2000])


def test_what_was_parked_can_be_replayed_and_is_parked_again(platform: Platform) -> None:
    before = {entry.id: entry for entry in asyncio.run(read_parked(platform.kafka))}
    chosen = [entry for entry in before.values() if entry.message.topic == USAGE.name][:3]
    platform.run("parked", "replay", *(entry.id for entry in chosen))

    def again() -> bool:
        now = {entry.id: entry for entry in asyncio.run(read_parked(platform.kafka))}
        new = Counter(
            (entry.message.reason, bytes(entry.message.value)) for id, entry in now.items() if id not in before
        )
        wanted = Counter((entry.message.reason, bytes(entry.message.value)) for entry in chosen)
        return wanted <= new and all(now[entry.id].replays == 1 for entry in chosen)

    wait_until(again, "what was replayed is parked again", PARKED_WITHIN_S)
    assert json.loads(platform.run("parked", "--json").stdout)
