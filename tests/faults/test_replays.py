"""Every event doubled and out of order, and whole topics read again, into the same warehouse and into an empty one."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.errors import Rejected, Unavailable
from adapters.kafka.parking import read_parked
from schemas.instances import InstanceChanged
from schemas.topics import BALANCES, CHARGES, INSTANCES, PARKED, PRICES, SPEND, USAGE, Topic
from schemas.usage import TokensUsed
from tests.bills import bills_agree
from tests.builders import bill_oracle
from tests.builders.billing_events import deepseek_prices, hour_price
from tests.builders.traffic import instance_minutes, requests
from tests.servers.billing_way import BillingWay, eventually
from tests.servers.clickhouse import running_clickhouse
from tests.servers.stream import StreamProcess
from tests.servers.topic_reading import records_of

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ.get("HYDRA_FAULTS_SEED", "20261121"))
REQUESTS = int(os.environ.get("HYDRA_FAULTS_REPLAYED", "300"))
MINUTES = REQUESTS // 10
OF_MONEY: tuple[Topic, ...] = (USAGE, INSTANCES, CHARGES, PRICES, PARKED, SPEND, BALANCES)


@pytest_asyncio.fixture
async def way(tmp_path: Path) -> AsyncIterator[BillingWay]:
    async with BillingWay(tmp_path) as made:
        await made.publish_prices([*deepseek_prices(), hour_price("10")])
        yield made


async def publish_all_again(way: BillingWay, chance: random.Random) -> int:
    """Every record that any topic of money holds, once more and in another order; how many."""
    records = [(topic, record) for topic in OF_MONEY for record in await records_of(way.bootstrap, topic)]
    chance.shuffle(records)
    producer = AIOKafkaProducer(bootstrap_servers=way.bootstrap, max_request_size=2_097_152)
    await producer.start()
    try:
        # To where it lay: what is partitioned by a part of its key stays in its order's partition.
        sent = [
            await producer.send(topic.name, record.value, key=record.key, partition=record.partition)
            for topic, record in records
        ]
        for future in sent:
            await future
    finally:
        await producer.stop()
    return len(records)


async def conflicts(clickhouse: ClickHouse) -> int:
    return int((await clickhouse.query("SELECT count() FROM conflicts"))[0][0])


async def parked_sources(way: BillingWay) -> Counter[bytes]:
    """What was parked, by its bytes."""
    return Counter(bytes(entry.message.value) for entry in await read_parked(way.bootstrap))


async def test_doubled_and_out_of_order_and_read_again_it_is_the_same_bill(way: BillingWay) -> None:
    chance = random.Random(SEED)
    usages, minutes = requests(REQUESTS), instance_minutes(MINUTES)
    started = way.start("token_charges", "instance_charges", "warehouse", "live_spend")
    messages: list[TokensUsed | InstanceChanged] = [*usages, *minutes] * 2
    chance.shuffle(messages)
    await way.publish(*messages)
    for topic in (USAGE, INSTANCES):
        await way.producer.publish(topic, "nobody", b"no event")
    await way.settled()
    charges, hours = await way.charges(), await way.spent_by_hour()
    bills_agree(hours, bill_oracle.spent_by_hour(usages, minutes))
    assert len(charges) > REQUESTS
    await way.await_balances("balances agree")

    assert await publish_all_again(way, chance) > 2 * len(messages)
    await way.settled()
    bills_agree((await way.charges(), await way.spent_by_hour(), await conflicts(way.clickhouse)), (charges, hours, 0))
    await way.await_balances("balances agree still")
    assert set(await parked_sources(way)) == {b"no event"}

    for process in started:
        assert process.stop() == 0
        assert "Traceback" not in process.log_file.read_text()
    await way.rewind("token_charges", "instance_charges", "warehouse")
    way.start("token_charges", "instance_charges", "warehouse", "live_spend")
    await way.settled()
    bills_agree((await way.charges(), await way.spent_by_hour(), await conflicts(way.clickhouse)), (charges, hours, 0))
    await way.await_balances("balances agree after a replay")

    with running_clickhouse(way.folder / "empty") as empty:
        address = ClickHouseAddress.with_password_file(empty.url, ADMIN, empty.admin_password_file)
        way.clickhouse, first = ClickHouse(address), way.clickhouse
        try:
            elsewhere = {"HYDRA_CLICKHOUSE_URL": empty.url, "HYDRA_HOME": str(empty.home)}
            group = {"HYDRA_WAREHOUSE_GROUP": "hydra.warehouse.again"}
            again = StreamProcess("warehouse", way.folder, way.environment | elsewhere | group)
            way.processes.append(again)
            again.start()
            await eventually(lambda: same_charges(way, charges), "the empty warehouse has the same charges")
            bills_agree((await way.spent_by_hour(), await conflicts(way.clickhouse)), (hours, 0))
        finally:
            await way.clickhouse.close()
            way.clickhouse = first


async def same_charges(way: BillingWay, charges: set[tuple[str, str, int, str]]) -> bool:
    try:
        return await way.charges() == charges
    except (Rejected, Unavailable):  # its tables are not made yet
        return False
