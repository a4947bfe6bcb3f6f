"""An assignor that knows how many partitions `hydra.spend` has, whatever Kafka tells of it at the moment.

Faust's own leaves out a topic that the cluster's metadata does not hold, as for a moment after a broker has come back:
then nobody of the group is given anything, and since the metadata is whole again soon, nobody asks for another
assignment.
"""

from __future__ import annotations

from typing import Any

from faust.assignor.partition_assignor import PartitionAssignor

from schemas.topics import SPEND


class KnownPartitions(PartitionAssignor):  # type: ignore[misc]  # Faust ships no usable types
    """All members read the one topic, whose number of partitions is part of its schema."""

    @classmethod
    def _get_copartitioned_groups(cls, topics: set[str], cluster: Any, subscriptions: Any) -> Any:
        return {SPEND.partitions: cls._group_co_subscribed(topics, subscriptions)}
