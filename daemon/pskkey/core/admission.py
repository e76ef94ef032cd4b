"""Which joiners a master refuses as members, and with which reason.

1. A joiner is of our group.
2. A session is of one node and one incarnation of it: those of its first JOIN. A later JOIN may change the rest.
3. A node id is of one node: it is not the master's, nor that of another incarnation that is alive.
4. The group has `max_members` places. A member that is awaited keeps its place.
5. One address has at most `members_per_address` of the places and of the sender ids. A node counts for the address of
   its last JOIN, for as long as it is a member, is awaited, or has a lease; a lease outlives the membership until the
   keys are gone that it was used under. So the host of one insider gets neither all places nor all sender ids. Leases
   that the last master granted count from the next JOIN of their nodes on.

A refusal costs the joiner its session, and us one pass over the members.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from pskkey.core.events import Session
from pskkey.core.settings import Settings
from pskkey.model import ErrorMessage, HeldKey, Join, Member


@dataclass(slots=True)
class Joined:
    """A member with its session. Times in seconds: when it joined, and when it is taken for dead.

    `former`: the key that it came with and goes on sending with, until `former_until` at the latest. `others_until`:
    until then others that it came with may follow, None: nobody does.
    """

    session: Session
    member: Member
    join: Join
    since: float
    deadline: float
    former: HeldKey | None = None
    former_until: float = 0.0
    others_until: float | None = None


class Admission:
    """The rules above, and from which address each node came that has a place or a lease."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: dict[str, str] = {}

    def admit(self, node: str, address: str, holders: Set[str]) -> None:
        """Count `node` for `address`, and forget nodes that are none of `holders`: they have nothing any more."""
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
        """Return why a JOIN is refused, None if it is not. `awaited` and `leased` are ids of nodes."""
        node = join.member.id
        if join.group != self._settings.group:
            return ErrorMessage("wrong_group", f"this is group {self._settings.group!r}, not {join.group!r}")
        if (same := joined.get(session)) is not None:
            if (same.member.id, same.join.instance) != (node, join.instance):
                return ErrorMessage("protocol", f"this session is of node {same.member.id} and stays so")
            return None
        if node == self._settings.me.id:
            return ErrorMessage("duplicate_id", f"node id {node} is the master's own; set [node] id on one")
        members = {other.member.id: other for other in joined.values()}
        if (other := members.get(node)) is not None and other.join.instance != join.instance:
            alive = now < other.deadline - self._settings.timing.dead_after / 2
            if alive:
                text = f"node id {node} is in use by {other.member.name}, alive; set [node] id on one"
                return ErrorMessage("duplicate_id", text)
        # The node's former session makes way for this one.
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
