"""Creates the declared topics, and refuses a broker whose topics contradict the table in schemas/topics.py."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from adapters.errors import Misconfigured, Unavailable
from schemas.topics import TOPICS, Topic


def _wanted(topic: Topic, replication: int) -> NewTopic:
    return NewTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=replication,
        topic_configs={
            "cleanup.policy": topic.cleanup,
            "retention.ms": str(topic.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(topic.max_message_bytes),
            # The broker's clock says when it took a message, whatever the sender's says: see adapters/clock_drift.py.
            "message.timestamp.type": "LogAppendTime",
        },
    )


async def create_topics(bootstrap: str, replication: int = 1) -> list[str]:
    """Create what is missing and return the names created. Can be run again at any time.

    Raises Unavailable where Kafka does not answer, Misconfigured where a topic exists with other partitions.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=20_000)
    try:
        await admin.start()
        present = set(await admin.list_topics())
        missing = [topic for topic in TOPICS if topic.name not in present]
        if missing:
            response = await admin.create_topics([_wanted(topic, replication) for topic in missing])
            for name, code, *_ in response.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise Unavailable(f"Kafka refused to create topic {name}: {for_code(code).__name__}")
        await _check_partitions(admin, [topic for topic in TOPICS if topic.name in present])
        return [topic.name for topic in missing]
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await admin.close()


async def _check_partitions(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    if not topics:
        return
    counts = {
        found["topic"]: len(found["partitions"]) for found in await admin.describe_topics([t.name for t in topics])
    }
    for topic in topics:
        if counts.get(topic.name) != topic.partitions:
            raise Misconfigured(
                f"topic {topic.name} has {counts.get(topic.name)} partitions, schemas/topics.py declares "
                f"{topic.partitions}: keys would move; restore the count or use another Kafka"
            )
