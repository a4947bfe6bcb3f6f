"""Reads what a topic holds now, for a test to look at."""

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.topics import Topic


async def records_of(bootstrap: str, topic: Topic) -> list[ConsumerRecord]:
    """Every record, partition by partition, in its order."""
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        found: list[ConsumerRecord] = []
        for partition in partitions:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                batches = await consumer.getmany(partition, timeout_ms=500)
                found += batches.get(partition, [])
        return found
    finally:
        await consumer.stop()
