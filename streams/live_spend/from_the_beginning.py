"""A Faust consumer whose committed position is always the beginning, since nothing is ever committed.

Around a rebalance Faust throws away messages that it has fetched, then seeks to the committed offsets. For a partition
without one its own seek does nothing: those messages never came again, and a balance stayed too low or was not shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class FromTheBeginning(driver.Consumer):  # type: ignore[misc]  # Faust ships no usable types
    """Seeks to the beginning wherever Faust means to go back to what was committed."""

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Every partition, none of them with an offset. Partitions that are lost meanwhile are left to who has them."""
        assigned = self.assignment()
        try:
            if assigned:
                await self._thread.seek_to_beginning(*(self._new_topicpartition(*tp) for tp in assigned))
        except IllegalStateError:
            return {}
        return dict.fromkeys(assigned)
