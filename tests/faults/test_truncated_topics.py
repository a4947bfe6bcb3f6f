"""A log that lost what was not read yet stops its readers loudly; they go on once an operator has named the gap."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from adapters.kafka.stops import Stops
from domain.stops import gap_text, unanswered
from schemas import codec
from schemas.stops import Gap, StopNoted
from schemas.topics import PRICES, STOPS, USAGE
from schemas.usage import TokensUsed
from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.billing_events import hour_price
from tests.builders.traffic import requests
from tests.faults.away import standing_still
from tests.faults.comparison import sql
from tests.faults.harms import await_order, await_told, kill, process_in_trouble
from tests.faults.load import SHARED, Customer, new_customers
from tests.faults.operator import hydra_resume, stopped_on_purpose, truncate, words_for
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.platform import Platform, wait_until
from tests.servers.stream import StreamProcess
from tests.servers.topic_reading import records_of

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
TRUNCATIONS = int(os.environ.get("HYDRA_FAULTS_TRUNCATIONS", "1"))
SIZES = (200, *random.Random(SEED).sample(range(100, 4_000, 20), TRUNCATIONS - 1))
"""How many messages lie before, in and behind the reader's hands when its log is cut."""
PARTITIONS = [TopicPartition(USAGE.name, number) for number in range(USAGE.partitions)]


async def ends_of_usage(way: BillingWay) -> dict[int, int]:
    return {tp.partition: end for tp, end in (await way.ends(PARTITIONS)).items()}


def usage_of(record: ConsumerRecord) -> TokensUsed:
    return codec.decode(record.value or b"", TokensUsed).data


async def usages_held(way: BillingWay) -> list[TokensUsed]:
    """What the log of usage still holds."""
    return [usage_of(record) for record in await records_of(way.bootstrap, USAGE)]


async def test_a_gap_is_named_by_the_operator_and_nothing_else_is_skipped(way: BillingWay) -> None:
    first, second = requests(300, accounts=40), requests(600, first=300, accounts=40)
    raters = way.start("token_charges", "warehouse")
    await way.publish(*first)
    await way.settled("token_charges", "warehouse")
    for process in raters:
        assert process.stop() == 0
    ends = await ends_of_usage(way)
    await way.publish(*second)
    await truncate(way.bootstrap, USAGE, {number: end + 20 for number, end in ends.items()})
    gaps = tuple(Gap(USAGE.name, number, end, end + 19) for number, end in sorted(ends.items()))

    rater, warehouse = raters
    rater.spawn()
    said = await stopped_on_purpose(rater)
    for gap in gaps:
        assert f"partition {gap.partition}: offset {gap.first_offset} is committed" in said
        assert f"--gap {gap_text(gap)}" in said

    # Asked without words, it tells what to type; a part, or another gap, is not enough.
    shown = await hydra_resume(way, "token_charges")
    assert shown.returncode == 1
    typed = shown.stderr.partition("To go on, type exactly: hydra resume ")[2].split()
    assert sorted(typed) == sorted(words_for(await stop_of(way, "token_charges")))
    for words in (typed[:-2], [*typed, "--from-start"], [*typed[:-1], f"{USAGE.name}/3:0-1"], [*typed[:-1], "3:0-1"]):
        assert (await hydra_resume(way, *words)).returncode in (1, 2)
    told = json.loads((await hydra_resume(way, "token_charges", "--json")).stdout)
    assert told["gaps"] == [gap_text(gap) for gap in gaps]
    rater.spawn()
    await stopped_on_purpose(rater)

    done = await hydra_resume(way, *typed, "--reason", "the disk of broker 2 is lost")
    assert done.returncode == 0, done.stderr
    # The gap grows before the process is started: what was accepted is not enough.
    await truncate(way.bootstrap, USAGE, {0: ends[0] + 25})
    rater.spawn()
    assert f"--gap {USAGE.name}/0:{ends[0]}-{ends[0] + 24}" in await stopped_on_purpose(rater)
    assert (await hydra_resume(way, *typed)).returncode == 1
    assert (await hydra_resume(way, *words_for(await stop_of(way, "token_charges")))).returncode == 0
    rater.start()

    # The warehouse has lost them too, and is asked for itself.
    warehouse.spawn()
    await stopped_on_purpose(warehouse)
    assert (await hydra_resume(way, *words_for(await stop_of(way, "warehouse")))).returncode == 0
    warehouse.start()
    await way.settled("token_charges", "warehouse")
    charged = [*first, *await usages_held(way)]
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(charged))
    assert (await hydra_resume(way, "token_charges")).stderr.endswith("or has gone on since\n")

    # Analysts see what no bill holds, and who said so.
    told_to_analysts = await way.clickhouse.query(
        "SELECT process, topic_partition, first_offset, last_offset, messages, reason FROM v_gaps"
        f" WHERE topic = '{USAGE.name}' AND process = 'token_charges' ORDER BY topic_partition, last_offset"
    )
    assert told_to_analysts[0] == ("token_charges", 0, ends[0], ends[0] + 19, 20, "the disk of broker 2 is lost")
    assert [row[1:4] for row in told_to_analysts[2:]] == [(n, ends[n], ends[n] + 19) for n in (1, 2, 3)]
    went_on = await way.clickhouse.query("SELECT DISTINCT process FROM v_stops WHERE what = 'went_on' ORDER BY process")
    assert went_on == [("token_charges",), ("warehouse",)]


async def stop_of(way: BillingWay, process: str) -> StopNoted:
    stop = unanswered(await Stops(way.bootstrap, process).noted())
    assert stop is not None
    return stop


@pytest.mark.parametrize("size", SIZES)
async def test_a_log_truncated_ahead_of_a_running_reader_stops_it(way: BillingWay, size: int) -> None:
    batches = [requests(size, first=first, accounts=40) for first in (0, size, 2 * size)]
    lost_each = size // 20
    rater, _ = way.start("token_charges", "warehouse")
    await way.publish(*batches[0])
    await way.settled("token_charges")
    # It stands still with one answer of Kafka's on its way at most, which may hold of the next messages, but not of
    # those after them.
    os.kill(rater.pid, signal.SIGSTOP)
    await way.publish(*batches[1])
    ends = await ends_of_usage(way)
    await way.publish(*batches[2])
    await way.settled("warehouse")
    recorded = {(r.partition, r.offset): usage_of(r) for r in await records_of(way.bootstrap, USAGE)}
    await truncate(way.bootstrap, USAGE, {number: end + lost_each for number, end in ends.items()})
    os.kill(rater.pid, signal.SIGCONT)

    await stopped_on_purpose(rater)
    gaps = (await stop_of(way, "token_charges")).gaps
    assert gaps
    assert all(ends[gap.partition] - size <= gap.first_offset <= ends[gap.partition] for gap in gaps)
    assert all(gap.last_offset == ends[gap.partition] + lost_each - 1 for gap in gaps)
    # Those of its partitions that it had not come to are found when it starts again.
    while rater.spawn() and await ended(rater):
        stop = await stop_of(way, "token_charges")
        gaps = tuple({*gaps, *stop.gaps})
        assert (await hydra_resume(way, *words_for(stop))).returncode == 0
    await way.settled("token_charges", "warehouse")
    lost = {(gap.partition, at) for gap in gaps for at in range(gap.first_offset, gap.last_offset + 1)}
    charged = [usage for where, usage in recorded.items() if where not in lost]
    assert len(charged) < len(recorded)
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(charged))


async def ended(process: StreamProcess) -> bool:
    """Wait until it is ready (False) or has stopped on purpose (True)."""
    await eventually(lambda: asyncio.to_thread(lambda: process.has_ended() or process.is_ready()), "it is decided")
    return process.has_ended() and bool(await stopped_on_purpose(process))


async def test_lost_prices_stop_a_rater_that_has_not_read_them(way: BillingWay) -> None:
    (running,) = way.start("token_charges")
    priced = requests(50)
    await way.publish(*priced)
    await way.settled("token_charges")
    await truncate(way.bootstrap, PRICES, {0: 2})
    more = requests(50, first=50)
    await way.publish(*more)
    await way.settled("token_charges")
    assert running.stop() == 0

    running.spawn()
    assert f"hydra resume token_charges --gap {PRICES.name}/0:0-1" in await stopped_on_purpose(running)
    assert (await hydra_resume(way, "token_charges", "--gap", f"{PRICES.name}/0:0-1")).returncode == 0
    running.start()
    warehouse = way.process("warehouse")
    warehouse.spawn()
    await stopped_on_purpose(warehouse)
    assert (await hydra_resume(way, *words_for(await stop_of(way, "warehouse")))).returncode == 0
    warehouse.start()
    await way.settled("token_charges", "warehouse")
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour([*priced, *more]))


async def test_prices_lost_ahead_of_a_running_rater_stop_it(way: BillingWay) -> None:
    (running,) = way.start("token_charges")
    await way.publish(*requests(50))
    await way.settled("token_charges")
    (end,) = (await way.ends([TopicPartition(PRICES.name, 0)])).values()
    # One answer of Kafka's is on its way to it at most, which may hold the first of these prices.
    os.kill(running.pid, signal.SIGSTOP)
    for version in (2, 3, 4):  # each in a message of its own
        await way.publish_prices([hour_price("11", version=version)])
    await truncate(way.bootstrap, PRICES, {0: end + 3})
    os.kill(running.pid, signal.SIGCONT)

    assert f"hydra resume token_charges --gap {PRICES.name}/0:0-{end + 2}" in await stopped_on_purpose(running)
    assert (await hydra_resume(way, *words_for(await stop_of(way, "token_charges")))).returncode == 0
    running.start()


async def test_lost_offsets_are_answered_by_reading_again(way: BillingWay) -> None:
    usages = requests(300)
    rater, _ = way.start("token_charges", "warehouse")
    await way.publish(*usages)
    await way.settled("token_charges", "warehouse")
    assert rater.stop() == 0
    charges = await way.charges()

    # Another group is what lost offsets look like: nothing committed, charges written.
    forgetful = way.process("token_charges", group="hydra.token_charges.lost")
    forgetful.spawn()
    assert (await stopped_on_purpose(forgetful)).count("hydra resume token_charges --from-start") == 1
    assert (await hydra_resume(way, "token_charges", "--gap", f"{USAGE.name}/0:0-9")).returncode == 1
    assert (await hydra_resume(way, "token_charges", "--from-start")).returncode == 0
    forgetful.start()
    await way.publish(*requests(10, first=900))
    await eventually(lambda: _has_read(forgetful, 310), "everything is read again")
    await way.settled("warehouse")
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour([*usages, *requests(10, first=900)]))
    bills_agree(charges - await way.charges(), set())
    assert await way.clickhouse.query("SELECT count() FROM conflicts") == [(0,)]

    # The permission held once, also where it comes once more: the next loss is asked about again.
    assert forgetful.stop() == 0
    for record in await records_of(way.bootstrap, STOPS):
        if codec.decode(record.value or b"", StopNoted).data.what == "accepted":
            await way.producer.publish(STOPS, "token_charges", record.value)
    forgetful_again = way.process("token_charges", group="hydra.token_charges.lost.again")
    forgetful_again.spawn()
    await stopped_on_purpose(forgetful_again)


async def _has_read(process: StreamProcess, count: int) -> bool:
    return await asyncio.to_thread(process.metric, "hydra_stream_events_total") >= count


def requests_of(platform: Platform, customer: Customer, count: int) -> None:
    """So many answered requests of the shared model, on record in ClickHouse when this returns."""
    before = usage_rows(platform, customer)
    for _ in range(count):
        answer = httpx.post(
            platform.url("gateway") + "/v1/chat/completions",
            headers={"Authorization": f"Bearer {customer.key}"},
            json={"model": SHARED, "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
    wait_until(lambda: usage_rows(platform, customer) == before + count, "usage is recorded")


def usage_rows(platform: Platform, customer: Customer) -> int:
    rows = sql(platform, f"SELECT count() AS n FROM usage FINAL WHERE account = '{customer.account}'")
    return int(rows[0]["n"])


def uncharged(platform: Platform, customer: Customer) -> int:
    """Requests with neither a charge nor a reason for none."""
    known = "SELECT source_event FROM charges UNION ALL SELECT id FROM unrated"
    among = f"account = '{customer.account}' AND id NOT IN ({known})"
    return int(sql(platform, f"SELECT count() AS n FROM usage FINAL WHERE {among}")[0]["n"])


def reason_of(platform: Platform, name: str) -> str:
    """Wait until `hydra status` tells that it has stopped on purpose; returns why."""
    said = await_told(platform, process_in_trouble(name), f"{name} has stopped on purpose")
    while not said.startswith("halted: "):
        said = await_told(platform, process_in_trouble(name), f"{name} has stopped on purpose")
    return said.removeprefix("halted: ")


def test_on_the_local_platform_it_is_shown_by_status_and_goes_on_by_the_command(
    platform_in_trouble: Platform,
) -> None:
    platform = platform_in_trouble
    await_order(platform)
    (customer,) = new_customers(platform, "truncated", services=0)
    requests_of(platform, customer, 5)
    wait_until(lambda: uncharged(platform, customer) == 0, "they are charged")
    refused = platform.run("resume", "token_charges", check=False)
    assert refused.returncode == 1
    assert "has not stopped on purpose: it is ready" in refused.stderr

    with standing_still(platform, "token_charges"):
        requests_of(platform, customer, 10)
        ends = asyncio.run(_ends(platform.kafka))
        asyncio.run(truncate(platform.kafka, USAGE, ends))
    reason = reason_of(platform, "token_charges")
    assert f"{USAGE.name} partition" in reason
    typed = reason.partition("; to go on: hydra ")[2].split()
    assert typed[:3] == ["resume", "token_charges", "--gap"]
    first, _, last = typed[3].rpartition(":")[2].partition("-")
    shown = platform.run(*typed[:2], check=False)
    assert shown.returncode == 1
    assert " ".join(typed) in shown.stderr
    assert platform.run(*typed[:3], f"{typed[3]}9", check=False).returncode == 1
    assert reason_of(platform, "token_charges") == reason

    resumed = platform.hydra(*typed, "--reason", "seen in a test")
    assert (resumed["state"], resumed["started"]) == ("ready", True)
    await_order(platform)
    requests_of(platform, customer, 5)
    lost = int(last) - int(first) + 1
    # One that it had in its hands already may have been charged, though its commit came too late.
    wait_until(lambda: uncharged(platform, customer) <= lost, f"all but the {lost} lost requests are charged")
    assert 0 < uncharged(platform, customer) <= lost <= 10
    wait_until(lambda: sql(platform, "SELECT * FROM v_gaps"), "analysts see the gap")
    (gap,) = sql(platform, "SELECT process, topic, messages, reason FROM v_gaps")
    assert (gap["process"], gap["topic"], gap["reason"]) == ("token_charges", USAGE.name, "seen in a test")
    assert int(gap["messages"]) == lost


async def _ends(bootstrap: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return {tp.partition: end for tp, end in (await consumer.end_offsets(PARTITIONS)).items()}
    finally:
        await consumer.stop()


def test_a_changed_price_text_stops_billing_until_it_is_put_back(platform_in_trouble: Platform) -> None:
    platform = platform_in_trouble
    text = platform.home / "config" / "prices.yaml"
    recorded = text.read_text()
    await_order(platform)
    text.write_text(re.sub(r'input: "?([0-9.]+)"?', 'input: "77"', recorded, count=1))
    kill(platform, "billing")
    reason = reason_of(platform, "billing")
    assert str(text) in reason
    assert reason.endswith("; to go on: hydra resume billing")
    # As long as the text stays changed, going on is no more than another look.
    again = platform.run("resume", "billing", check=False, timeout_s=180)
    assert again.returncode == 1
    assert "billing is halted" in again.stdout
    text.write_text(recorded)
    assert platform.hydra("resume", "billing")["state"] == "ready"
    await_order(platform)
