"""Which partition of a topic a key belongs to."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key; for topics partitioned by a part of their key."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions
