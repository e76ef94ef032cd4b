"""Sender ids: which node may send under which id (0..255), so that no two nodes share an id within the life of a key.

1. Only the master that made a key grants ids under it. A successor honours the leases that the last master announced.
   That master may have granted more ids before it died or was cut off. So under an inherited key a newcomer's lease is
   *blocked*: it is not granted until the group sends with a key of the new master's own making, and the master rekeys
   for it. Thus no message that is lost between two masters makes two nodes share an id.
2. A node keeps its lease while it is a member. When it has left, its id is free only after every key is gone under
   which it may have been used.
3. A node that returns as another incarnation would start its sequence numbers over, so its lease is blocked too.
4. Only nodes with a session manager that sends get a lease. A node that never sends needs no entry.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pskkey.model import SENDER_IDS, Member


@dataclass(slots=True)
class _Lease:
    sender_id: int
    incarnation: str | None
    blocked_in: frozenset[int] = frozenset()
    """The epochs under which the id is not granted."""
    left_in: frozenset[int] | None = None
    """The live epochs when the node was found to have left; None while it is a member."""


def leases_of(members: Iterable[Member]) -> tuple[tuple[str, int | None], ...]:
    """Return the node id of each member with the sender id that is leased to it."""
    return tuple((member.id, member.sender_id) for member in members)


class LeaseTable:
    """The lease table of a master. `live` are the epochs of the keys that it holds, if not stated otherwise."""

    def __init__(self) -> None:
        self._by_node: dict[str, _Lease] = {}
        self._retired: dict[int, frozenset[int]] = {}
        """Inherited ids without a known holder, with the epochs in which they may have been used."""
        self._inherited: frozenset[int] = frozenset()
        self._used: frozenset[int] = frozenset()
        self._blocked_in: frozenset[int] = frozenset()

    def inherit(self, holders: Mapping[str, int], used: frozenset[int], epochs: frozenset[int]) -> None:
        """Begin with the leases of the last master: `holders`, and the ids `used` under its keys, of `epochs`."""
        told = list(holders.values())
        # An id that was announced for two nodes has no known holder.
        self._by_node = {node: _Lease(i, None) for node, i in holders.items() if told.count(i) == 1}
        held = {lease.sender_id for lease in self._by_node.values()}
        self._retired = dict.fromkeys((used | {*told}) - held, epochs)
        self._inherited = epochs
        self._count()

    def grant(
        self,
        node: str,
        incarnation: str,
        *,
        sends: bool,
        resumed: bool,
        before: frozenset[int],
        wanted: int | None,
        live: frozenset[int],
        coming: frozenset[int] = frozenset(),
        claimed: tuple[int, int] | None = None,
    ) -> int | None:
        """Lease an id to `node` if it sends; return the id, None if there is none. The lease may be blocked for now.

        A node keeps a lease that it has, also while it does not send. `resumed`: the node sends with a key of this
        master under this lease, so it knows its sequence numbers from that key on. It may not know those of the keys
        `before`, to which a successor may have fallen back. `wanted`: the configured id, leased if it is free. `live`:
        the epochs that may have been sent under. `coming`: the epoch of a key that is only being distributed.
        `claimed`: the id and the epoch that the node reports to send under. If the epoch is inherited and the id has no
        holder, the node gets it: the last master granted it and died before the announcement.
        """
        lease = self._by_node.get(node)
        if lease is None and claimed and claimed[1] in self._inherited and self.holder(claimed[0]) is None:
            # Under the other inherited keys, another partition may have granted this id to another node.
            lease = self._by_node[node] = _Lease(claimed[0], incarnation, self._inherited - {claimed[1]})
            self._retired.pop(claimed[0], None)
        elif lease is None:
            sender_id = self._free_id(wanted) if sends else None
            if sender_id is None:
                return None
            lease = self._by_node[node] = _Lease(sender_id, incarnation, self._inherited)
        elif lease.incarnation is None and resumed:
            lease.blocked_in = before
        elif lease.incarnation != incarnation:
            # Its last incarnation, if that was a member here, has the coming key too.
            lease.blocked_in = self._inherited | (live if lease.incarnation is None else live | coming)
        lease.incarnation = incarnation
        lease.left_in = None
        self._count()
        return lease.sender_id

    def is_blocked(self, node: str, epoch: int) -> bool:
        """Return whether the lease of `node` is blocked under `epoch`."""
        lease = self._by_node.get(node)
        return lease is not None and epoch in lease.blocked_in

    def waiting(self, present: frozenset[str], epoch: int) -> list[str]:
        """Return the `present` nodes whose lease is blocked under `epoch`."""
        if epoch not in self._blocked_in:
            return []
        return [node for node, lease in self._by_node.items() if epoch in lease.blocked_in and node in present]

    def review(self, present: frozenset[str], live: frozenset[int]) -> None:
        """Free the ids of nodes that are not `present`, once all keys are gone that they may have sent with."""
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
        """The nodes that have a lease, also those that have left."""
        return self._by_node.keys()

    def in_use(self) -> frozenset[int]:
        """Return all ids under which records may come."""
        return self._used

    def sender_id(self, node: str) -> int | None:
        """Return the leased id of a node, granted or blocked; None: no lease."""
        lease = self._by_node.get(node)
        return None if lease is None else lease.sender_id

    def holder(self, sender_id: int) -> str | None:
        """Return the node to which an id is leased; None: no node."""
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
