"""The admission of joiners: which joiners a master refuses as members, and with which reason.

1. A joiner must name the group of the master, and have a protocol level in common with all members (`levels`).
2. A session belongs to the node, the incarnation and the levels in its first JOIN. A later JOIN may change all other
   fields. An *incarnation* is a node's process, or a row of processes that each begin with the state of the last one.
3. A node id belongs to one node. A joiner may have neither the id of the master, nor the id of another incarnation that
   is alive. Alive means that it has sent a message within the last `dead_after` / 2.
4. The group has `max_members` places, including the master's. An awaited node keeps its place.
5. Nodes at one address can have at most `members_per_address` places and sender ids. So the host of one insider cannot
   take all of them. A node counts for the address of its last JOIN while it is a member, is awaited, or has a lease.
6. A lease lasts longer than the membership, until all keys are retired under which it was used. A lease that the last
   master granted counts only after the next JOIN of its node.

A refusal costs the joiner its session, and the master one pass over the members.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pskkey.core.events import Accepted, Session
from pskkey.core.levels import explain, find_stranger
from pskkey.core.loss_codes import NO_COMMON_LEVEL
from pskkey.core.notices import BadJoin, DuplicateMember, JoinerLeft, MemberRefused
from pskkey.core.roster import Roster
from pskkey.core.settings import Settings
from pskkey.model import ErrorMessage, HeldKey, Join, KeyState, Member


@dataclass(slots=True)
class Joined:
    """A member and its session. It joined at `since`, and counts as dead from `deadline` on (seconds).

    `former`: the former key that the member sends with, until `former_until` at the latest; None without one.
    """

    peer: Accepted
    member: Member
    join: Join
    since: float
    deadline: float
    former: HeldKey | None = None
    former_until: float = 0.0
    has_yielded: bool = False
    """Whether it was a master that has yielded to this one; known when it has arrived."""
    has_arrived: bool = False
    """Whether it has sent a message since its JOIN. So GROUP has arrived, and large packets get through."""
    roster: Roster | None = None
    """The member map that was sent to it last."""
    sent: KeyState | None = None
    """The key state that was sent to it last."""

    @property
    def session(self) -> Session:
        """The session on which it has joined."""
        return self.peer.session

    def dead_after(self, ours: float) -> float:
        """Return the seconds of silence after which it counts as dead: the longer of `ours` and its own time."""
        return max(ours, self.join.times.dead_after)


class Admission:
    """The rules above, and the address of each node that has a place or a lease."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: dict[str, str] = {}

    def admit(self, node: str, address: str, holders: Set[str]) -> None:
        """Count `node` for `address`. Forget the nodes that are not in `holders`, which have a place or a lease."""
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
        """Return the ERROR that refuses a JOIN, None if it is not refused. `awaited` and `leased` are node ids."""
        node = join.member.id
        if join.group != self._settings.group:
            return ErrorMessage("wrong_group", f"this is group {self._settings.group!r}, not {join.group!r}")
        if (same := joined.get(session)) is not None:
            if (same.member.id, same.join.incarnation, same.member.speaks) != (node, join.incarnation, join.speaks):
                return ErrorMessage("protocol", f"this session is of node {same.member.id} and stays so")
            return None
        if node == self._settings.me.id:
            return ErrorMessage("duplicate_id", f"node id {node} is the master's own; set [node] id on one")
        if (
            stranger := find_stranger(join.member, [self._settings.me, *(j.member for j in joined.values())])
        ) is not None:
            return ErrorMessage(NO_COMMON_LEVEL, explain(stranger, join.member))
        members = {other.member.id: other for other in joined.values()}
        if (other := members.get(node)) is not None and other.join.incarnation != join.incarnation:
            alive = now < other.deadline - other.dead_after(self._settings.timing.dead_after) / 2
            if alive:
                text = f"node id {node} is in use by {other.member.name}, alive; set [node] id on one"
                return ErrorMessage("duplicate_id", text)
        # A node that joins again keeps its own place.
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


def reports_of_unconfirmed(joined: Iterable[Joined]) -> list[JoinerLeft]:
    """Return a report for each joiner that is no member yet. Its session ends, and it may have received the keys."""
    return [JoinerLeft(j.peer.address, j.peer.identity, j.member) for j in joined if not j.has_arrived]


def report_of(refusal: ErrorMessage, joiner: Member, address: str) -> DuplicateMember | BadJoin | MemberRefused:
    """Return the report of a refusal."""
    match refusal.code:
        case "duplicate_id":
            return DuplicateMember(joiner, address, refusal.message)
        case "protocol":
            return BadJoin(joiner, address, refusal.message)
        case _:
            return MemberRefused(joiner, address, refusal.message)
