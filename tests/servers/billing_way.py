"""The way of money for tests: Kafka, ClickHouse and the stream processors, real and each a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.kafka.producer import EventProducer
from adapters.kafka.stops import Stops
from adapters.kafka.topics import create_topics
from domain.stops import unanswered
from runner.kafka import KafkaServer
from schemas import codec
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.prices import PriceRecorded
from schemas.spend import BalanceStated
from schemas.stops import StopNoted
from schemas.topics import BALANCES, CHARGES, INSTANCES, PARKED, PRICES, STOPS, USAGE, Topic
from schemas.usage import TokensUsed
from tests.bills import Mismatch, bills_agree
from tests.builders.billing_events import instance_event, price_event, usage_event
from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse
from tests.servers.kafka import running_kafka
from tests.servers.stream import StreamProcess

DEADLINE_S = 240
GROUPS: dict[str, tuple[Topic, ...]] = {
    "token_charges": (USAGE,),
    "instance_charges": (INSTANCES,),
    "warehouse": (USAGE, INSTANCES, CHARGES, PRICES, PARKED, STOPS),
}


class BillingWay:
    """Use as an async context. `start` brings a processor up; whatever it started is gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers = ExitStack()
        self.processes: list[StreamProcess] = []

    async def __aenter__(self) -> Self:
        self.kafka: KafkaServer = self._servers.enter_context(running_kafka(self.folder / "kafka"))
        self.bootstrap = self.kafka.node.bootstrap
        self.server: ClickHouseProcess = self._servers.enter_context(running_clickhouse(self.folder / "home"))
        await create_topics(self.bootstrap)
        self.producer = EventProducer(self.bootstrap)
        address = ClickHouseAddress.with_password_file(self.server.url, ADMIN, self.server.admin_password_file)
        self.clickhouse = ClickHouse(address)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        await self.producer.stop()
        await self.clickhouse.close()
        self._servers.close()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HYDRA_KAFKA_BOOTSTRAP": self.bootstrap,
            "HYDRA_HOME": str(self.server.home),
            "HYDRA_CLICKHOUSE_URL": self.server.url,
        }

    def process(self, name: str, **settings: str) -> StreamProcess:
        """A processor that is not started yet. `settings` without its prefix."""
        own = {f"HYDRA_{name.upper()}_{key.upper()}": value for key, value in settings.items()}
        process = StreamProcess(name, self.folder, self.environment | own)
        self.processes.append(process)
        return process

    def start(self, *names: str) -> list[StreamProcess]:
        started = [self.process(name) for name in names]
        for process in started:
            process.spawn()
        for process in started:
            process.wait_until_ready()
        return started

    async def publish_prices(self, prices: Iterable[PriceRecorded]) -> None:
        await self.producer.publish_all(
            [(PRICES, price.price_id, codec.encode(price_event(price))) for price in prices]
        )

    async def publish(self, *data: TokensUsed | InstanceChanged) -> None:
        """In the order given."""
        await self.producer.publish_all([self._message(one) for one in data])

    @staticmethod
    def _message(data: TokensUsed | InstanceChanged) -> tuple[Topic, str, bytes | None]:
        if isinstance(data, TokensUsed):
            return USAGE, data.account, codec.encode(usage_event(data))
        return INSTANCES, data.instance, codec.encode(instance_event(data))

    async def settled(self, *names: str) -> None:
        """Wait until these processors have committed all that their topics hold (default: raters, then warehouse)."""
        for name in names or ("token_charges", "instance_charges", "warehouse"):
            try:
                await eventually(lambda name=name: self._has_settled(name), f"{name} has read everything")
            except AssertionError as error:
                left = {f"{tp.topic}/{tp.partition}": n for tp, n in (await self._open(name)).items() if n}
                raise AssertionError(f"{error}; not committed: {left}\n{self._last_words(name)}") from error

    def _last_words(self, name: str) -> str:
        return "\n".join(one.log_file.read_text()[-3000:] for one in self.processes if one.name == name)

    async def _has_settled(self, name: str) -> bool:
        return not any((await self._open(name)).values())

    async def lag(self, name: str) -> int:
        """How many messages of its topics the group of a processor has not committed, as Kafka says."""
        return sum((await self._open(name)).values())

    async def _open(self, name: str) -> dict[TopicPartition, int]:
        """The end of each partition that a processor reads, less what its group has committed there."""
        partitions = [TopicPartition(topic.name, n) for topic in GROUPS[name] for n in range(topic.partitions)]
        ends = await self.ends(partitions)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(f"hydra.{name}")
        finally:
            await admin.close()
        return {tp: ends[tp] - (max(0, committed[tp].offset) if tp in committed else 0) for tp in partitions}

    async def ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            return dict(await consumer.end_offsets(partitions))
        finally:
            await consumer.stop()

    async def rewind(self, *names: str) -> None:
        """Set the offsets of processors that do not run back to 0, as an operator does to replay everything."""
        for name in names:
            offsets = {TopicPartition(topic.name, n): 0 for topic in GROUPS[name] for n in range(topic.partitions)}
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=f"hydra.{name}")
            await consumer.start()
            consumer.assign(list(offsets))
            try:
                await consumer.commit(offsets)
            finally:
                await consumer.stop()

    async def accept(self, process: str) -> StopNoted:
        """Accept all that a process which stopped on purpose asks for, as `hydra resume` does; returns its stop."""
        stops = Stops(self.bootstrap, process)
        stop = unanswered(await stops.noted())
        assert stop is not None, f"{process} has noted no stop"
        await stops.note_accepted(stop, "a test", "tester")
        return stop

    async def charges(self) -> set[tuple[str, str, int, str]]:
        """Id, hash, quantity and amount of every charge that counts."""
        rows = await self.clickhouse.query("SELECT id, quantity, toString(amount), source_event FROM v_charges")
        if len({row[0] for row in rows}) != len(rows):
            raise Mismatch("a charge counts twice")
        hashes = dict(await self.clickhouse.query("SELECT id, any(payload_hash) FROM charges FINAL GROUP BY id"))
        return {(id, hashes[id], int(quantity), amount) for id, quantity, amount, _ in rows}

    async def spent_by_hour(self) -> dict[tuple[str, datetime], Fraction]:
        rows = await self.clickhouse.query("SELECT account, hour, toString(amount) FROM v_spend_hourly")
        return {(account, hour): Fraction(amount) for account, hour, amount in rows if Fraction(amount)}

    async def spent(self) -> dict[str, Fraction]:
        accounts: dict[str, Fraction] = {}
        for (account, _), amount in (await self.spent_by_hour()).items():
            accounts[account] = accounts.get(account, Fraction()) + amount
        return accounts

    async def balances(self) -> dict[str, BalanceStated]:
        """Each account's balance of the highest version; of equal versions the first, as the gateway reads them."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        partition = TopicPartition(BALANCES.name, 0)
        end = (await self.ends([partition]))[partition]
        latest: dict[str, BalanceStated] = {}
        await consumer.start()
        consumer.assign([partition])
        try:
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        event: Event[BalanceStated] = codec.decode(record.value, BalanceStated)
                        known = latest.get(event.data.account)
                        if known is None or event.data.version > known.version:
                            latest[event.data.account] = event.data
        finally:
            await consumer.stop()
        return latest

    async def await_balances(self, why: str) -> None:
        """Wait until every balance's total is, to the last digit, what ClickHouse has. Raises Mismatch."""
        try:
            await eventually(self._balances_agree, why)
        except AssertionError:
            bills_agree(await self._stated(), await self.spent())

    async def _balances_agree(self) -> bool:
        return await self._stated() == await self.spent()

    async def _stated(self) -> dict[str, Fraction]:
        return {
            account: Fraction(total)
            for account, balance in (await self.balances()).items()
            if (total := balance.spent_total.get("CNY", 0))
        }


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until it holds; fails with `what` after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not await holds():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.2)
