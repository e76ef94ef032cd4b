"""The sender ids: which node may send under which id (0..255). No two nodes use the same id with the same key.

A *lease* gives a node its sender id. The node may use the id under a key unless the lease is *blocked* under this key.

1. Only the master that made a key grants ids under it. A successor keeps the leases that the last master announced. But
   the last master may have granted more ids just before it was lost. So under an *inherited* key, a key of the last
   master, the lease of a newcomer is blocked. The new master makes a new key for it.
2. A node keeps its lease while it is a member. After it has left, its id is free again when all keys are retired under
   which it may have used the id.
3. A node that returns as another incarnation starts its sequence numbers again. So its lease is blocked too.
4. Only nodes with a session manager that sends get a lease.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pskkey.model import SENDER_IDS, Member


@dataclass(slots=True)
class _Lease:
    sender_id: int
    incarnation: str | None
    blocked_in: frozenset[int] = frozenset()
    """The epochs under which the node may not use the id."""
    left_in: frozenset[int] | None = None
    """The live epochs when the master noticed that the node had left; None while it is a member."""


def leases_of(members: Iterable[Member]) -> tuple[tuple[str, int | None], ...]:
    """Return the node id of each member with the sender id that is leased to it."""
    return tuple((member.id, member.sender_id) for member in members)


class LeaseTable:
    """The lease table of a master. The argument `live` has the epochs of the master's keys."""

    def __init__(self) -> None:
        self._by_node: dict[str, _Lease] = {}
        self._retired: dict[int, frozenset[int]] = {}
        """The inherited ids without a known holder, with the epochs under which nodes may have used them."""
        self._inherited: frozenset[int] = frozenset()
        self._used: frozenset[int] = frozenset()
        self._blocked_in: frozenset[int] = frozenset()

    def inherit(self, holders: Mapping[str, int], used: frozenset[int], epochs: frozenset[int]) -> None:
        """Begin with the leases of the last master: `holders`, and the ids `used` under its keys, of `epochs`."""
        announced = list(holders.values())
        # An id that was announced for two nodes has no known holder.
        self._by_node = {node: _Lease(i, None) for node, i in holders.items() if announced.count(i) == 1}
        held = {lease.sender_id for lease in self._by_node.values()}
        self._retired = dict.fromkeys((used | {*announced}) - held, epochs)
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
        """Lease an id to `node` if it sends. Return the id, None if there is none. The lease may be blocked at first.

        A node keeps its lease while it does not send.

        `resumed`: the node sends with a key of this master under its present lease. So it knows its sequence numbers
        under this key and later keys. `before`: the epochs of earlier keys, under which it may not know them.
        `wanted`: the configured id. The node gets this id if it is free.
        `live`: the epochs under which nodes may have sent. `coming`: the epoch of the next key.
        `claimed`: the id and the epoch that the node reports to send under. If the epoch is inherited and the id has no
        holder, the node gets this id: the last master granted it, and was lost before it announced it.
        """
        lease = self._by_node.get(node)
        if lease is None and claimed and claimed[1] in self._inherited and self.holder(claimed[0]) is None:
            # Another partition may have granted this id to another node under the other inherited keys.
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
            # If its last incarnation was a member here, that incarnation may have used the coming key.
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
        """Free the ids of nodes that are not `present`, when all keys are retired that they may have sent with."""
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
        """The nodes that have a lease. Some of them may have left."""
        return self._by_node.keys()

    def in_use(self) -> frozenset[int]:
        """Return all ids under which records may arrive."""
        return self._used

    def sender_id(self, node: str) -> int | None:
        """Return the leased id of a node, even if the lease is blocked; None without a lease."""
        lease = self._by_node.get(node)
        return None if lease is None else lease.sender_id

    def holder(self, sender_id: int) -> str | None:
        """Return the node to which an id is leased, None if there is none."""
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
