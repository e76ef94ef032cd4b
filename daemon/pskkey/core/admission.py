"""Which joiners a master refuses as members, and with which reason.

1. A joiner names the group of the master.
2. A session belongs to one node and one incarnation: those of its first JOIN. A later JOIN may change all else.
3. A node id belongs to one node. It is neither the master's nor that of another incarnation that is alive. Alive means:
   it has sent a message within the last `dead_after` / 2.
4. The group has `max_members` places, the master's included. An awaited node keeps its place.
5. One address has at most `members_per_address` of the places and of the sender ids. A node counts for the address of
   its last JOIN while it is a member, is awaited, or has a lease. A lease outlives the membership, until all keys are
   gone under which it was used. So the host of one insider cannot take all places or all sender ids. A lease of the
   last master counts from the next JOIN of its node on.

A refusal costs the joiner its session, and the master one pass over the members.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from pskkey.core.events import Session
from pskkey.core.settings import Settings
from pskkey.model import ErrorMessage, HeldKey, Join, Member


@dataclass(slots=True)
class Joined:
    """A member and its session. Times in seconds: it joined at `since`, and counts as dead from `deadline` on.

    `former`: the former key that the member sends with, until `former_until` at the latest.
    """

    session: Session
    member: Member
    join: Join
    since: float
    deadline: float
    former: HeldKey | None = None
    former_until: float = 0.0


class Admission:
    """The rules above, and the address of each node that has a place or a lease."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: dict[str, str] = {}

    def admit(self, node: str, address: str, holders: Set[str]) -> None:
        """Count `node` for `address`; forget the nodes that are not `holders` of a place or a lease."""
        self._addresses = {known: where for known, where in self._addresses.items() if known in holders}
        self._addresses[node] = address

    def refusal(
        self,
        session: Session,
        join: Join,
        address: str,
        joined: Mapping[Session, Joined],
        awaited: Set[str],
        leased: Set[str],
        now: float,
    ) -> ErrorMessage | None:
        """Return why a JOIN is refused, None if it is not. `awaited` and `leased` are node ids."""
        node = join.member.id
        if join.group != self._settings.group:
            return ErrorMessage("wrong_group", f"this is group {self._settings.group!r}, not {join.group!r}")
        if (same := joined.get(session)) is not None:
            if (same.member.id, same.join.incarnation) != (node, join.incarnation):
                return ErrorMessage("protocol", f"this session is of node {same.member.id} and stays so")
            return None
        if node == self._settings.me.id:
            return ErrorMessage("duplicate_id", f"node id {node} is the master's own; set [node] id on one")
        members = {other.member.id: other for other in joined.values()}
        if (other := members.get(node)) is not None and other.join.incarnation != join.incarnation:
            alive = now < other.deadline - self._settings.timing.dead_after / 2
            if alive:
                text = f"node id {node} is in use by {other.member.name}, alive; set [node] id on one"
                return ErrorMessage("duplicate_id", text)
        # The new session of a node takes the place of its former one.
        places = (members.keys() | awaited) - {node}
        if len(places) + 1 >= self._settings.max_members:
            count = len(joined) + 1
            return ErrorMessage("group_full", f"the group has {count} members, its limit (limits.members)")
        limit = self._settings.members_per_address
        if sum(self._addresses.get(holder) == address for holder in places | leased - {node}) >= limit:
            text = (
                f"{limit} nodes from {address} are members or have sender ids, the limit of one address "
                "(limits.connections_per_address); a rekey frees the ids of those that left"
            )
            return ErrorMessage("group_full", text)
        return None
