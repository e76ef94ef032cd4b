"""Sender ids: which node may send under which id (0..255), so that no two ever share one within a key's life.

A node keeps its id while it is known, and an id whose holder left is not given to another until every key under which
it may have been used is gone; the successor of a dead master learns those from the bitmap of KEY_STATE. A node that
comes back with a new memory (`instance`) would start its sequence numbers over: its lease is blocked, that is not
granted, until the group sends with another epoch than the one it was used in.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pskkey.model import SENDER_IDS


@dataclass(slots=True)
class _Lease:
    sender_id: int
    instance: str | None
    sends: bool
    blocked_epoch: int | None = None
    left_in: int | None = None
    """The epoch in which the node was found to be gone; None while it is there."""


class Leases:
    """The leases of one group, kept by its master."""

    def __init__(self) -> None:
        self._by_node: dict[str, _Lease] = {}
        self._retired: dict[int, int] = {}
        """Ids that left with their holders, and the newest epoch they may have been used in."""

    def inherit(self, holders: Iterable[tuple[str, int]], used: frozenset[int], epoch: int) -> None:
        """Start from what the last master told: who holds which id, and which ids are in use under `epoch`."""
        self._by_node = {node: _Lease(sender_id, None, sends=True) for node, sender_id in holders}
        held = {lease.sender_id for lease in self._by_node.values()}
        self._retired = dict.fromkeys(used - held, epoch)

    def grant(
        self, node: str, instance: str, *, resumed: bool, sends: bool, wanted: int | None, epoch: int
    ) -> tuple[int | None, bool]:
        """Lease an id to `node`; return it (None: all are taken) and whether it must wait for a new epoch.

        `resumed`: the node says that it holds the current key, so its memory and its sequence numbers are whole.
        `wanted` is a configured id, honoured when nobody else has it.
        """
        lease = self._by_node.get(node)
        if lease is None:
            sender_id = self._free_id(wanted)
            if sender_id is None:
                return None, False
            lease = self._by_node[node] = _Lease(sender_id, instance, sends)
            return lease.sender_id, False
        same_memory = resumed if lease.instance is None else lease.instance == instance
        if not same_memory and lease.sends:
            lease.blocked_epoch = epoch
        lease.instance = instance
        lease.sends = sends or (lease.sends and same_memory)
        return lease.sender_id, lease.blocked_epoch == epoch

    def is_blocked(self, node: str, epoch: int) -> bool:
        """Tell whether the lease of `node` waits for another epoch than `epoch`, the current one."""
        lease = self._by_node.get(node)
        return lease is not None and lease.blocked_epoch == epoch

    def review(self, present: frozenset[str], epoch: int, live: frozenset[int]) -> None:
        """Free the ids whose holders are gone and under which nothing can come any more.

        `epoch` is the one that the group sends with, `live` are those whose keys are still held.
        """
        self._retired = {i: used_in for i, used_in in self._retired.items() if used_in in live}
        for node, lease in list(self._by_node.items()):
            if node in present:
                lease.left_in = None
            elif lease.left_in is None:
                lease.left_in = epoch
            elif lease.left_in not in live:
                del self._by_node[node]

    def in_use(self) -> frozenset[int]:
        """Return every id from which records may come."""
        return frozenset(lease.sender_id for lease in self._by_node.values()) | frozenset(self._retired)

    def sender_id(self, node: str) -> int | None:
        """Return the id of a node, granted or blocked."""
        lease = self._by_node.get(node)
        return None if lease is None else lease.sender_id

    def _free_id(self, wanted: int | None) -> int | None:
        taken = self.in_use()
        if wanted is not None and wanted not in taken:
            return wanted
        return next((i for i in range(SENDER_IDS) if i not in taken), None)
