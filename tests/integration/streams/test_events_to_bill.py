"""Usage and instance events to rows, once whatever comes twice, late or broken."""

from __future__ import annotations

import random
from datetime import timedelta
from fractions import Fraction

import msgspec
from aiokafka import AIOKafkaProducer

from adapters.clickhouse.open_matters import OpenMatters, open_matters
from adapters.clock import SystemClock
from adapters.kafka.parking import read_parked, replay_parked
from schemas.topics import CHARGES, INSTANCES, PRICES, USAGE
from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.billing_events import NOON, instance, token_price, usage
from tests.builders.traffic import instance_minutes, requests
from tests.servers.billing_way import BillingWay


async def test_repeated_and_shuffled_events_are_charged_once_and_exactly(way: BillingWay) -> None:
    usages, minutes = requests(600), instance_minutes(80)
    messages = [*usages, *minutes, *usages[:200], *minutes[:30], *usages[100:150]]
    random.Random(3).shuffle(messages)
    way.start("token_charges", "instance_charges", "warehouse")
    await way.publish(*messages)
    await way.settled()

    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))
    unexplained = await way.clickhouse.query(
        "SELECT id FROM usage FINAL WHERE id NOT IN (SELECT source_event FROM charges)"
        " AND id NOT IN (SELECT id FROM unrated)"
    )
    assert unexplained == []
    rows = await way.clickhouse.query("SELECT count() FROM usage FINAL")
    assert rows == [(600,)]
    totals = await way.clickhouse.query("SELECT sum(quantity) FROM v_charges WHERE meter = 'output_tokens'")
    billed = [u for u in usages if bill_oracle.cost_of_usage(u)]
    assert int(totals[0][0]) == sum(u.completion_tokens or 0 for u in billed)


async def test_poison_is_parked_with_its_reason_and_the_rest_goes_on(way: BillingWay) -> None:
    poison = {
        "not json": b"\x00\xff garbage",
        "empty": b"",
        "deep": b'{"data":' + b"[" * 60_000,
        "utf8": b'{"id":"\xff"}',
        "wrong type": b'{"id":"1","source":"s","type":"other","subject":"s","time":"2026-11-20T12:00:00Z",'
        b'"dataschema":"d","data":{}}',
    }
    way.start("token_charges", "instance_charges", "warehouse")
    for value in poison.values():
        for topic in (USAGE, INSTANCES, CHARGES, PRICES):
            await way.producer.publish(topic, "poison", value)
    impossible = [usage(900, prompt_tokens=-5), usage(901, cached_tokens=5_000), usage(902, completion_tokens=10**18)]
    good = usage(1)
    too_wide = [usage(904, status=70_000, outcome="refused"), instance(None, epoch=2**33)]
    await way.publish(*impossible, *too_wide, good, usage(903, error_code="x" * 5_000))
    await way.settled()

    bills_agree(await way.spent(), bill_oracle.spent([good]))
    parked = {entry.id: entry.message for entry in await read_parked(way.bootstrap)}
    by_processor = {processor: 0 for processor in ("token_charges", "instance_charges", "warehouse")}
    for message in parked.values():
        by_processor[message.processor] += 1
        assert message.reason in ("undecodable", "invalid", "unknown_type")
        assert "garbage" not in message.detail
    assert sum(message.reason == "unknown_type" for message in parked.values()) == 2 + 4
    # The warehouse keeps usage that cannot be rated as it was recorded, unless the tables cannot hold it.
    assert by_processor["token_charges"] == len(poison) + len(impossible) + 1
    assert by_processor["instance_charges"] == len(poison)
    # 904 and the instance fit an event but no column; two of the impossible ones do not even fit an event.
    assert by_processor["warehouse"] == 4 * len(poison) + len(too_wide) + 2 + 1
    assert await way.clickhouse.query("SELECT id FROM usage FINAL ORDER BY id") == [
        (good.request_id,),
        (impossible[1].request_id,),
    ]
    seen = await way.clickhouse.query("SELECT count() FROM v_parked")
    assert seen == [(len(parked),)]


async def test_a_message_too_large_to_be_parked_whole_holds_nobody_up(way: BillingWay) -> None:
    """Kafka bounds a message by what it is compressed; parked it would be larger than any message may be."""
    rater, warehouse = way.start("token_charges", "warehouse")
    async with AIOKafkaProducer(
        bootstrap_servers=way.bootstrap, compression_type="gzip", max_request_size=8_000_000
    ) as foreign:
        await foreign.send_and_wait(USAGE.name, b"0" * 3_000_000, key=b"u-1")
    good = usage(1)
    await way.publish(good)
    await way.settled(rater.name, warehouse.name)
    bills_agree(await way.spent(), bill_oracle.spent([good]))
    entries = await read_parked(way.bootstrap)
    assert {(entry.message.processor, entry.message.reason) for entry in entries} == {
        ("token_charges", "undecodable"),
        ("warehouse", "undecodable"),
    }
    assert {(len(entry.message.value), entry.message.value_bytes) for entry in entries} == {(0, 3_000_000)}
    assert await replay_parked(entries, way.producer, SystemClock()) == 0


async def test_what_had_no_price_is_charged_once_it_is_recorded_and_replayed(way: BillingWay) -> None:
    way.start("token_charges", "instance_charges", "warehouse")
    unpriced = usage(1, model="glm-4-9b-chat", cached_tokens=None)
    await way.publish(unpriced, usage(2))
    await way.settled()
    bills_agree(await way.spent(), bill_oracle.spent([usage(2)]))
    assert await way.clickhouse.query("SELECT id, reason FROM v_unbilled_usage") == [(unpriced.request_id, "unpriced")]
    assert (await open_matters(way.clickhouse)).parked == {("token_charges", "unpriced"): 1}

    late = {"model": "glm-4-9b-chat", "recorded_at": NOON + timedelta(hours=1)}
    await way.publish_prices([token_price("input_tokens", "2", **late), token_price("output_tokens", "3", **late)])
    entries = await read_parked(way.bootstrap)
    assert [entry.message.reason for entry in entries] == ["unpriced"]
    assert await replay_parked(entries, way.producer, SystemClock()) == 1
    await way.settled()

    expected = Fraction(2 * 1_000 + 3 * 500, 1_000_000) + bill_oracle.spent([usage(2)])[unpriced.account]
    bills_agree(await way.spent(), {unpriced.account: expected})
    assert await way.clickhouse.query("SELECT id FROM v_unbilled_usage") == []
    assert await open_matters(way.clickhouse) == OpenMatters(parked={}, conflicts=0)


async def test_a_conflict_leaves_every_bill_and_its_spend_is_stated_again(way: BillingWay) -> None:
    way.start("token_charges", "instance_charges", "warehouse", "live_spend")
    disputed, other = usage(1), usage(2)
    await way.publish(disputed, other)
    await way.settled()
    bills_agree(await way.spent(), bill_oracle.spent([disputed, other]))

    changed = msgspec.structs.replace(disputed, completion_tokens=9, ended=NOON + timedelta(hours=5))
    await way.publish(changed)
    await way.settled()
    bills_agree(await way.spent(), bill_oracle.spent([other]))
    rows = await way.clickhouse.query("SELECT DISTINCT source_event FROM conflicts")
    assert rows == [(disputed.request_id,)]
    assert (await open_matters(way.clickhouse)).conflicts > 0
    await way.await_balances("balances follow the conflict")
