"""Wall clocks jump and whole topics come again, under load: every bill stays right."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas import codec
from schemas.instances import InstanceChanged
from schemas.topics import INSTANCES, PARKED, STOPS, TOPICS, USAGE
from schemas.usage import TokensUsed
from tests.bills import Mismatch
from tests.faults.comparison import compare, sql
from tests.faults.harms import Clocks
from tests.faults.load import Load, end_services, new_customers
from tests.faults.truth import ledger_settings
from tests.servers.platform import Platform, running_platform, wait_until
from tests.servers.topic_reading import records_of

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
JUMPING = ("gateway", "worker", "lifecycle", "token_charges", "instance_charges", "warehouse", "accounts")
JUMPS = int(os.environ.get("HYDRA_FAULTS_CLOCK_JUMPS", str(len(JUMPING))))
"""They take turns: with as many jumps as processes each clock jumps once."""
JUMP_S_MAX = 400
STAYS_S = 1.0
"""How long a wall clock stays wrong before it jumps on; this is the load's length, nothing is waited for by it."""
NEAR_S = 2.0
BEHIND_S = 90.0


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    return Clocks(tmp_path_factory.mktemp("clocks") / "offsets")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("clocks") / "home"
    home.mkdir()
    settings = ledger_settings(home) | {"HYDRA_CLOCK_OFFSETS": str(clocks.folder), "HYDRA_LIFECYCLE_INTERVAL_S": "10"}
    with running_platform(home, **settings) as made:
        yield made


def drift_s(platform: Platform, process: str) -> float:
    text = httpx.get(f"{platform.url(process)}/metrics", timeout=30).text
    (line,) = (line for line in text.splitlines() if line.startswith("hydra_clock_drift_seconds "))
    return float(line.split()[1])


def node_drifts_s(platform: Platform) -> list[float]:
    """What lifecycle says of each node's clock."""
    lines = httpx.get(f"{platform.url('lifecycle')}/metrics", timeout=30).text.splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("hydra_node_clock_drift_seconds{")]


def says(platform: Platform, process: str, seconds: float) -> Callable[[], bool]:
    """Whether this process knows that its wall clock is so far off."""

    def said() -> bool:
        answer = httpx.get(f"{platform.url(process)}/health/ready", timeout=30)
        warned = "wall clock" in answer.json().get("warning", "")
        is_near = abs(drift_s(platform, process) - seconds) < NEAR_S
        return answer.status_code == 200 and is_near and warned == (abs(seconds) > 1)

    return said


def usage_of(platform: Platform, account: str) -> dict[str, TokensUsed]:
    found = [codec.decode(record.value, TokensUsed).data for record in asyncio.run(records_of(platform.kafka, USAGE))]
    return {usage.request_id: usage for usage in found if usage.account == account}


def ask(platform: Platform, key: str, model: str, tokens: int, meanwhile: Callable[[], None] = lambda: None) -> str:
    """One streamed request, answered in full; `meanwhile` happens once its first bytes are here. Its id."""
    body = {"model": model, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    with httpx.stream(
        "POST",
        platform.url("gateway") + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json=body | {"messages": [{"role": "user", "content": "count"}]},
        timeout=120,
    ) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        meanwhile()
        assert [line for line in lines if line][-1] == "data: [DONE]"
        return str(answer.headers["x-request-id"])


def test_usage_is_marked_while_the_gateways_clock_is_wrong_and_only_then(platform: Platform, clocks: Clocks) -> None:
    account = platform.new_account("marked")
    key = platform.new_key(account)
    model = "public/deepseek-r1"

    before = ask(platform, key, model, 8)
    began = time.monotonic()
    during = ask(platform, key, model, 3_000, lambda: clocks.move("gateway", 300))
    took_s = time.monotonic() - began
    wait_until(says(platform, "gateway", 300), "the gateway says that its clock is ahead")
    ahead = ask(platform, key, model, 8)
    clocks.move("gateway", -180)
    wait_until(says(platform, "gateway", -180), "the gateway says that its clock is behind")
    behind = ask(platform, key, model, 8)
    status = {one["name"]: one for one in platform.hydra("status")["processes"]}["gateway"]
    wait_until(lambda: "wall clock" in gateway_status(platform), f"`hydra status` says so: {status}")
    mended = ask(platform, key, model, 3_000, lambda: clocks.move("gateway", 0))
    wait_until(says(platform, "gateway", 0), "the gateway's clock is right again")
    after = ask(platform, key, model, 8)

    wait_until(lambda: len(usage_of(platform, account)) >= 6, "all usage is published")
    usage = usage_of(platform, account)
    marked = {id: one.time_doubtful for id, one in usage.items()}
    assert marked == {before: False, during: True, ahead: True, behind: True, mended: True, after: False}
    wait_until(lambda: doubtful_rows(platform, account) == {during, ahead, behind, mended}, "analysts see the mark")
    assert 0 < (usage[during].ended - usage[during].received).total_seconds() <= took_s
    # The end decides price and month, and its clock was right.
    assert (usage[mended].ended - usage[mended].received).total_seconds() > 120
    assert usage[mended].ended < usage[after].received
    assert usage[ahead].received > usage[after].received > usage[behind].received


def doubtful_rows(platform: Platform, account: str) -> set[str]:
    rows = sql(platform, f"SELECT id FROM v_usage WHERE time_doubtful AND account = '{account}'")
    return {row["id"] for row in rows}


def gateway_status(platform: Platform) -> str:
    return str({one["name"]: one for one in platform.hydra("status")["processes"]}["gateway"]["reason"])


def test_bills_stay_right_while_clocks_jump_and_every_topic_comes_again(platform: Platform, clocks: Clocks) -> None:
    chance = random.Random(SEED)
    customers = new_customers(platform, "clocks", services=1)
    account = customers[0].account
    revoked = platform.hydra("key", "create", "--account", account)
    platform.await_key(revoked["key"])
    platform.hydra("key", "delete", revoked["id"], "--account", account)
    wait_until(lambda: status_with(platform, revoked["key"]) == 401, "the deleted key is refused")
    clocks.move("worker", 120)
    wait_until(lambda: any(abs(one - 120) < NEAR_S for one in node_drifts_s(platform)), "lifecycle says it of the node")
    wait_until(says(platform, "worker", 120), "the agent says that its clock is ahead")
    clocks.move("worker", 0)

    load = Load(platform, customers, seed=SEED, at_once=3)
    with load.running():
        for number in range(JUMPS):
            process = JUMPING[number % len(JUMPING)]
            for _ in range(2):
                clocks.move(process, chance.uniform(-JUMP_S_MAX, JUMP_S_MAX))
                time.sleep(STAYS_S)
            clocks.move(process, 0)
        assert set(asyncio.run(everything_again(platform.kafka, chance))) >= ALL_TOPICS
        answered = load.answered()
        wait_until(lambda: load.answered() > answered + 20, "requests are answered behind it")
        (instance,) = platform.service(customers[0].services[0], account)["instances"]
        assert instance["state"] == "ready"
    # The end is accepted by one clock, and what the agent says of it is stamped by another.
    clocks.move("worker", -BEHIND_S)
    wait_until(says(platform, "worker", -BEHIND_S), "the agent's clock is behind")
    end_services(platform, customers)
    wait_until(lambda: has_ended(platform, instance["id"]), "its end is known")
    clocks.move("worker", 0)
    print(compare(platform, load).line())
    assert no_intervals_overlap(platform) > 0
    assert (status_with(platform, revoked["key"]), status_with(platform, customers[0].key)) == (401, 200)
    assert all(one["restarts"] == 0 for one in platform.hydra("status")["processes"])


ALL_TOPICS = {topic.name for topic in TOPICS} - {PARKED.name, STOPS.name}
"""Those that hold something on a platform that nothing has gone wrong with."""


def status_with(platform: Platform, key: str) -> int:
    answer = httpx.get(platform.url("gateway") + "/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    return answer.status_code


async def everything_again(bootstrap: str, chance: random.Random) -> Counter[str]:
    """Every record of every topic once more, out of order; how many of each topic."""
    records = [(topic.name, record) for topic in TOPICS for record in await records_of(bootstrap, topic)]
    chance.shuffle(records)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_097_152)
    await producer.start()
    try:
        sent = [
            await producer.send(name, record.value, key=record.key, partition=record.partition)
            for name, record in records
        ]
        for future in sent:
            await future
    finally:
        await producer.stop()
    return Counter(name for name, _ in records)


def has_ended(platform: Platform, instance: str) -> bool:
    found = [
        codec.decode(record.value, InstanceChanged).data
        for record in asyncio.run(records_of(platform.kafka, INSTANCES))
    ]
    return any(one.state == "ended" for one in found if one.instance == instance)


def no_intervals_overlap(platform: Platform) -> int:
    """How many billable intervals there are; each begins no earlier than its instance's one before has ended."""
    found = [
        codec.decode(record.value, InstanceChanged).data
        for record in asyncio.run(records_of(platform.kafka, INSTANCES))
    ]
    by_sequence = {(one.instance, one.epoch, one.sequence): one for one in found}
    until: dict[str, datetime] = {}
    count = 0
    for _, changed in sorted(by_sequence.items()):
        if changed.interval is not None:
            earlier = until.get(changed.instance)
            if earlier is not None and changed.interval.billable_from < earlier:
                raise Mismatch(f"billable intervals overlap: {changed}")
            until[changed.instance] = changed.interval.billable_until
            count += 1
    return count
