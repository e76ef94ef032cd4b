"""Sender ids: which node may send under which id (0..255), so that no two ever share one within a key's life.

Under a key, ids are given out only by the master that made the key. A successor honours those that it was told of; one
that it does not know of may have been given out by its predecessor, dead or beyond a split, at the last moment. So
under an inherited key a newcomer's lease is *blocked*: it is not granted until the group sends with a key of the
master's own making, and the master rolls to one. That way nothing that is lost between two masters can make two nodes
share an id.

A node keeps its id while it is known, and an id whose holder left is not given to another until every key under which
it may have been used is gone. A node that comes back with a new memory (`instance`) would start its sequence numbers
over, so its lease is blocked too. Only nodes with a session manager that sends get a lease: what was never granted need
not be remembered.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pskkey.model import SENDER_IDS, Member


@dataclass(slots=True)
class _Lease:
    sender_id: int
    instance: str | None
    blocked_in: frozenset[int] = frozenset()
    """The epochs under which the id is not granted."""
    left_in: frozenset[int] | None = None
    """The epochs that lived when the node was found to be gone; None while it is there."""


def leases_of(members: Iterable[Member]) -> tuple[tuple[str, int | None], ...]:
    """Return the ids of these nodes with the sender ids that are leased to them."""
    return tuple((member.id, member.sender_id) for member in members)


class Leases:
    """The leases of one group, kept by its master. `live` are the epochs of the keys that are held."""

    def __init__(self) -> None:
        self._by_node: dict[str, _Lease] = {}
        self._retired: dict[int, frozenset[int]] = {}
        """Ids that left with their holders, and the epochs in which they may have been used."""
        self._inherited: frozenset[int] = frozenset()
        self._used: frozenset[int] = frozenset()
        self._blocked_in: frozenset[int] = frozenset()

    def inherit(self, holders: Mapping[str, int], used: frozenset[int], epochs: frozenset[int]) -> None:
        """Start from what the last master told: who holds which id, and which are in use under its keys, `epochs`."""
        told = list(holders.values())
        # Of an id that it told of twice, nobody knows whose it is.
        self._by_node = {node: _Lease(i, None) for node, i in holders.items() if told.count(i) == 1}
        held = {lease.sender_id for lease in self._by_node.values()}
        self._retired = dict.fromkeys((used | {*told}) - held, epochs)
        self._inherited = epochs
        self._count()

    def grant(
        self,
        node: str,
        instance: str,
        *,
        sends: bool,
        resumed: bool,
        before: frozenset[int],
        wanted: int | None,
        live: frozenset[int],
        coming: frozenset[int] = frozenset(),
        claimed: tuple[int, int] | None = None,
    ) -> int | None:
        """Lease an id to `node` if it sends; return the id, None if there is none. It may be blocked for now.

        A node that had a lease has it still, also while it does not send. `resumed`: the node sends with a key of
        ours under this very lease, so its memory is whole from that key on; of those `before` it, which a successor may
        have fallen back to, it may know nothing. `wanted` is a configured id, honoured when nobody else has it. `live`
        are the epochs that may have been sent under, `coming` that of a key that is only being distributed. `claimed`:
        the id that it says it sends under, and the epoch. Where that is an inherited key's and nobody else's, the last
        master granted it, and died before we were told.
        """
        lease = self._by_node.get(node)
        if lease is None and claimed and claimed[1] in self._inherited and self.holder(claimed[0]) is None:
            # Under the other keys of before, the other half of a split may have given that id to somebody else.
            lease = self._by_node[node] = _Lease(claimed[0], instance, self._inherited - {claimed[1]})
            self._retired.pop(claimed[0], None)
        elif lease is None:
            sender_id = self._free_id(wanted) if sends else None
            if sender_id is None:
                return None
            lease = self._by_node[node] = _Lease(sender_id, instance, self._inherited)
        elif lease.instance is None and resumed:
            lease.blocked_in = before
        elif lease.instance != instance:
            # Its other memory has been told of the key that is on its way, if it was a member of ours.
            lease.blocked_in = self._inherited | (live if lease.instance is None else live | coming)
        lease.instance = instance
        lease.left_in = None
        self._count()
        return lease.sender_id

    def is_blocked(self, node: str, epoch: int) -> bool:
        """Tell whether the lease of `node` waits for another epoch."""
        lease = self._by_node.get(node)
        return lease is not None and epoch in lease.blocked_in

    def waiting(self, present: frozenset[str], epoch: int) -> list[str]:
        """Return those of the present nodes that wait for another epoch."""
        if epoch not in self._blocked_in:
            return []
        return [node for node, lease in self._by_node.items() if epoch in lease.blocked_in and node in present]

    def review(self, present: frozenset[str], live: frozenset[int]) -> None:
        """Free the ids of those who are gone and from which nothing can come any more: `live` are the epochs held."""
        self._inherited &= live
        self._retired = {i: used_in for i, used_in in self._retired.items() if used_in & live}
        for node, lease in list(self._by_node.items()):
            if node in present:
                lease.left_in = None
            elif lease.left_in is None:
                lease.left_in = live
            elif not lease.left_in & live:
                del self._by_node[node]
        self._count()

    @property
    def nodes(self) -> Set[str]:
        """The nodes that have a lease, those among them that left."""
        return self._by_node.keys()

    def in_use(self) -> frozenset[int]:
        """Return every id from which records may come."""
        return self._used

    def sender_id(self, node: str) -> int | None:
        """Return the id of a node, granted or blocked."""
        lease = self._by_node.get(node)
        return None if lease is None else lease.sender_id

    def holder(self, sender_id: int) -> str | None:
        """Return the node to which an id is leased."""
        return next((node for node, lease in self._by_node.items() if lease.sender_id == sender_id), None)

    def _count(self) -> None:
        leases = self._by_node.values()
        self._used = frozenset(lease.sender_id for lease in leases) | self._retired.keys()
        self._blocked_in = frozenset(epoch for lease in leases for epoch in lease.blocked_in)

    def _free_id(self, wanted: int | None) -> int | None:
        taken = self.in_use()
        if wanted is not None and wanted not in taken:
            return wanted
        return next((i for i in range(SENDER_IDS) if i not in taken), None)
