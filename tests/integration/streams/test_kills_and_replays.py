"""Whatever is killed, moved or read again: the same charges and the same totals."""

from __future__ import annotations

import asyncio
import random

from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed
from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.traffic import instance_minutes, requests
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.stream import StreamProcess

# Small batches, so that a kill falls into the middle of many.
SMALL = {"batch_records_max": "25"}


async def publish_slowly(way: BillingWay, messages: list[TokensUsed | InstanceChanged]) -> None:
    for start in range(0, len(messages), 50):
        await way.publish(*messages[start : start + 50])
        await asyncio.sleep(0.05)


async def not_ready(process: StreamProcess) -> bool:
    return not await asyncio.to_thread(process.is_ready)


async def has_worked(process: StreamProcess) -> bool:
    return await asyncio.to_thread(process.metric, "hydra_stream_events_total") > 0


async def killed_and_started_again(process: StreamProcess, times: int, seed: int) -> None:
    """Kill it without warning, at moments that the seed draws, and start it again each time."""
    drawn = random.Random(seed)
    for _ in range(times):
        await asyncio.sleep(drawn.uniform(0.1, 1.0))
        process.kill()
        process.spawn()
        await eventually(lambda: asyncio.to_thread(process.is_ready), f"{process.name} is ready again")


async def test_kill_9_in_the_middle_of_batches_loses_and_doubles_nothing(way: BillingWay) -> None:
    usages, minutes = requests(3_000), instance_minutes(200)
    messages: list[TokensUsed | InstanceChanged] = [*usages, *minutes]
    random.Random(5).shuffle(messages)
    raters = [way.process("token_charges", **SMALL), way.process("instance_charges", **SMALL)]
    warehouse = way.process("warehouse", batch_records_max="200")
    for process in (*raters, warehouse):
        process.start()
    await asyncio.gather(
        publish_slowly(way, messages),
        killed_and_started_again(raters[0], 3, seed=1),
        killed_and_started_again(raters[1], 2, seed=2),
        killed_and_started_again(warehouse, 3, seed=3),
    )
    await way.settled()
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))


async def test_two_raters_share_the_partitions_and_one_dies(way: BillingWay) -> None:
    usages = requests(3_000, accounts=40)
    first = way.process("token_charges", **SMALL)
    second = way.process("token_charges", **SMALL)
    first.start()
    way.start("instance_charges", "warehouse")
    await way.publish(*usages[:500])
    await eventually(lambda: has_worked(first), "the first has begun")
    second.start()
    publishing = asyncio.create_task(publish_slowly(way, list(usages[500:])))
    await eventually(lambda: has_worked(second), "the second has a share of the partitions")
    first.kill()
    await publishing
    await way.settled()
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages))


async def test_a_replay_from_the_beginning_gives_the_same_charges(way: BillingWay) -> None:
    usages, minutes = requests(800), instance_minutes(60)
    started = way.start("token_charges", "instance_charges", "warehouse")
    await way.publish(*usages, *minutes)
    await way.settled()
    charges = await way.charges()
    assert len(charges) > 800
    for process in started:
        assert process.stop() == 0
        assert "Traceback" not in process.log_file.read_text()

    await way.rewind("token_charges", "instance_charges", "warehouse")
    way.start("token_charges", "instance_charges", "warehouse")
    await way.settled()
    bills_agree(await way.charges(), charges)
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour(usages, minutes))
    assert await way.clickhouse.query("SELECT count() FROM conflicts") == [(0,)]


async def test_with_clickhouse_away_nothing_is_acknowledged_and_all_comes_later(way: BillingWay) -> None:
    warehouse = way.start("token_charges", "instance_charges", "warehouse")[-1]
    before, during = requests(100), requests(300, first=100)
    await way.publish(*before)
    await way.settled()
    way.server.kill()
    await way.publish(*during)
    await way.settled("token_charges")
    await eventually(lambda: not_ready(warehouse), "the warehouse says that it waits")
    way.server.start()
    await way.settled()
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour([*before, *during]))


async def test_with_kafka_away_processors_say_so_and_go_on_when_it_is_back(way: BillingWay) -> None:
    processes = way.start("token_charges", "instance_charges", "warehouse", "live_spend")
    before, after = requests(100), requests(100, first=100)
    await way.publish(*before)
    await way.settled()
    way.kafka.kill()
    for process in processes:
        await eventually(lambda process=process: not_ready(process), f"{process.name} says that Kafka is away")
    way.kafka.start()
    for process in processes:
        await eventually(lambda process=process: asyncio.to_thread(process.is_ready), f"{process.name} goes on")
    await way.publish(*after)
    await way.settled()
    bills_agree(await way.spent_by_hour(), bill_oracle.spent_by_hour([*before, *after]))
    await way.await_balances("balances follow")
    for process in processes:
        assert len(process.log_file.read_text().splitlines()) < 300


async def test_lost_offsets_stop_a_rater_instead_of_charging_blindly(way: BillingWay) -> None:
    (first,) = way.start("token_charges")
    await way.publish(*requests(50))
    await way.settled("token_charges")
    assert first.stop() == 0

    # Another group is what lost offsets look like: nothing committed, charges written.
    second = way.process("token_charges", group="hydra.token_charges.lost")
    second.spawn()
    assert await asyncio.to_thread(second.wait) == 78
    assert "no offset is committed" in second.log_file.read_text()


async def test_a_warehouse_that_lost_its_rows_stops_and_is_rebuilt_from_kafka(way: BillingWay) -> None:
    usages, minutes = requests(300), instance_minutes(20)
    warehouse = way.start("token_charges", "instance_charges", "warehouse")[-1]
    await way.publish(*usages, *minutes)
    await way.settled()
    charges = await way.charges()
    assert warehouse.stop() == 0
    tables = "SELECT name FROM system.tables WHERE database = 'hydra' AND engine = 'ReplacingMergeTree'"
    for (table,) in await way.clickhouse.query(f"{tables} AND name != 'schema_migrations'"):
        await way.clickhouse.command(f"TRUNCATE TABLE {table}")

    warehouse.spawn()
    assert await asyncio.to_thread(warehouse.wait) == 78
    assert "to go on: hydra resume warehouse --from-start" in warehouse.log_file.read_text()
    await way.accept("warehouse")
    warehouse.start()
    await way.settled()
    bills_agree(await way.charges(), charges)
