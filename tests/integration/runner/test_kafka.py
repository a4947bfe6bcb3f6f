"""Apache Kafka as the platform and the tests run it: serves, keeps its data, refuses unknown topics."""

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from runner.kafka import KafkaError, KafkaServer, brokers_in_metadata, format_data
from tests.servers.kafka import new_kafka
from tests.servers.ports import free_port


async def create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_messages_go_through_the_shared_node(kafka: str) -> None:
    await create_topic(kafka, "runner-test")
    await send(kafka, "runner-test", [b"one", b"two"])
    assert await read(kafka, "runner-test", 2) == [b"one", b"two"]


async def test_topics_are_not_created_by_use(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.describe_topics(["runner-test-unknown"])
        assert "runner-test-unknown" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.fixture
def own_kafka(tmp_path: Path) -> KafkaServer:
    return new_kafka(tmp_path / "kafka")


async def test_a_killed_node_keeps_what_it_acknowledged(own_kafka: KafkaServer) -> None:
    bootstrap = own_kafka.node.bootstrap
    try:
        own_kafka.start()
        await create_topic(bootstrap, "kept")
        await send(bootstrap, "kept", [b"before"])
        own_kafka.kill()
        assert brokers_in_metadata("127.0.0.1", own_kafka.node.port) == 0
        own_kafka.start()
        await send(bootstrap, "kept", [b"after"])
        assert await read(bootstrap, "kept", 2) == [b"before", b"after"]
    finally:
        own_kafka.stop()
    assert own_kafka.pid is None


def test_a_start_that_fails_names_the_log(tmp_path: Path) -> None:
    server = new_kafka(tmp_path / "kafka")
    format_data(server.node)
    (server.node.data / "meta.properties").write_text("version=999\n")
    with pytest.raises(KafkaError, match=r"exit code .* log is"):
        server.start()
    assert server.pid is None


def test_missing_jars_are_named(tmp_path: Path) -> None:
    node = new_kafka(tmp_path / "kafka").node
    empty = type(node)(port=node.port, controller_port=node.controller_port, folder=node.folder, libs=tmp_path)
    with pytest.raises(KafkaError, match="make demo"):
        format_data(empty)


def test_nobody_listening_is_no_broker() -> None:
    assert brokers_in_metadata("127.0.0.1", free_port(), timeout_s=1.0) == 0
