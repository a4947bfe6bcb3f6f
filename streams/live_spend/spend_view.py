"""Every account's spend of the partitions that this worker has, in memory, rebuilt from `hydra.spend`."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from domain.spend_windows import AccountSpend
from schemas.spend import SpendStated


class _Partition:
    def __init__(self) -> None:
        self.accounts: dict[str, AccountSpend] = {}
        self.next_offset = 0
        self.end: int | None = None

    @property
    def caught_up(self) -> bool:
        return self.end is not None and self.next_offset >= self.end


class SpendView:
    """Takes stated totals, and tells which accounts' balances may have changed.

    Balances of a partition are shown only once it has been read to where it ended when it was assigned: while it is
    read from the beginning its totals are too low.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._partitions: dict[int, _Partition] = {}
        self._owned: frozenset[int] = frozenset()
        self._dirty: set[tuple[int, str]] = set()

    @property
    def caught_up(self) -> bool:
        return all(self._partition(number).caught_up for number in self._owned)

    @property
    def owned(self) -> frozenset[int]:
        return self._owned

    def next_offset(self, number: int) -> int:
        """The offset behind the last message read of a partition."""
        return self._partition(number).next_offset

    def own(self, partitions: frozenset[int]) -> None:
        """Partitions are assigned: forget those that are not among them.

        What is known of a new one stays: its first messages may have come before this call, and all are true.
        """
        for number in set(self._partitions) - partitions:
            del self._partitions[number]
        self._owned = partitions
        self._dirty = {(number, account) for number, account in self._dirty if number in self._partitions}

    def ends_at(self, ends: Mapping[int, int]) -> None:
        """Where the owned partitions end now; one that has been caught up before stays so."""
        for number, end in ends.items():
            partition = self._partition(number)
            if number in self._owned and partition.end is None:
                partition.end = end

    def take(self, number: int, offset: int, stated: SpendStated | None) -> None:
        """One message of a partition; None for one that states nothing."""
        partition = self._partition(number)
        if stated is not None:
            spend = partition.accounts.get(stated.account)
            if spend is None:
                spend = partition.accounts[stated.account] = AccountSpend(self._zone)
            if spend.state(stated.hour, stated.totals, stated.covers_offset):
                self._dirty.add((number, stated.account))
        partition.next_offset = max(partition.next_offset, offset + 1)

    def mark_all(self) -> None:
        """Windows have moved: every account may differ."""
        for number, partition in self._partitions.items():
            self._dirty.update((number, account) for account in partition.accounts)

    def mark(self, account: str) -> None:
        """What is published of this account may differ from what is true."""
        for number, partition in self._partitions.items():
            if account in partition.accounts:
                self._dirty.add((number, account))

    def changed(self) -> dict[str, AccountSpend]:
        """The accounts to look at, each handed out once; those of partitions that are still being read stay marked."""
        ready = {number for number in self._owned if self._partition(number).caught_up}
        taken = {(number, account) for number, account in self._dirty if number in ready}
        self._dirty -= taken
        return {account: self._partitions[number].accounts[account] for number, account in taken}

    def __len__(self) -> int:
        return sum(len(partition.accounts) for partition in self._partitions.values())

    def _partition(self, number: int) -> _Partition:
        return self._partitions.setdefault(number, _Partition())
