"""Which GPU of the machine belongs to which instance."""

from __future__ import annotations


class GpuSlots:
    """Gives each instance GPUs by number, lowest first, until it gives them back."""

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus
        self._held: dict[str, tuple[int, ...]] = {}

    def take(self, instance: str, count: int) -> tuple[int, ...] | None:
        """`count` free GPUs, or those that the instance holds already; None when there are too few."""
        if instance in self._held:
            return self._held[instance]
        taken = {gpu for held in self._held.values() for gpu in held}
        free = [gpu for gpu in range(self._gpus) if gpu not in taken]
        if len(free) < count:
            return None
        self._held[instance] = tuple(free[:count])
        return self._held[instance]

    def give_back(self, instance: str) -> None:
        self._held.pop(instance, None)
